"""Rows are there as soon as they are measured, and an evaluation goes on with them."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.ablate.measure import Found
from rcodec_jax.errors import StorageError, UsageError
from rcodec_jax.evaluate import coders, command, roi
from rcodec_jax.evaluate import run as evaluation
from rcodec_jax.evaluate.journal import Journal, keep
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.evaluate.run import Row, Run, list_pictures, run

FIGURES = {"psnr_db": float("inf"), "ms_ssim": None, "lpips": 0.25}
ROW = Row("a.png", "x", "bpp=1", 8, 8, 8, 1.0, FIGURES, 0.1, 0.2, model="m")
KEY = ("a.png", "0123", "x", "bpp=1")


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path, {"model": "m", "steps": None})
    journal.add(KEY, ROW)
    with path.open("a") as stream:
        stream.write('{"key": ["b.png", "0123"')  # a line that a crash cut off
    again = Journal(path, {"model": "m", "steps": None})
    assert len(again) == 1 and again.find(KEY, Row) == ROW
    again.add(("b.png",), ROW)
    assert len(Journal(path, {"model": "m", "steps": None})) == 2
    assert len(Journal(path, {"model": "other", "steps": 1}, anew=True)) == 0


def test_a_first_line_that_was_cut_off_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"with": {"mod')
    Journal(path, {"model": "m"}).add(KEY, ROW)
    assert Journal(path, {"model": "m"}).find(KEY, Row) == ROW


def test_numbers_that_are_none_come_back_in_lists(tmp_path: Path) -> None:
    found = Found(("a",), [[float("nan"), 1.0]], [[float("inf"), 30.0]])
    Journal(tmp_path / "x", {}).add(("base",), found)
    again = Journal(tmp_path / "x", {}).find(("base",), Found)
    np.testing.assert_array_equal(again.bpp, found.bpp)
    np.testing.assert_array_equal(again.quality_db, found.quality_db)


def test_results_among_the_pictures_are_no_pictures(small_folder: Path) -> None:
    out = small_folder / "report"
    (out / "files").mkdir(parents=True)
    shutil.copy(small_folder / "0.png", out / "files" / "0.png")
    assert [path.name for path in list_pictures(small_folder, out=out)] == ["0.png", "1.png"]
    assert len(list_pictures(small_folder)) == 3


def test_rows_of_other_circumstances_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path, {"model": "a", "steps": 1})
    with pytest.raises(UsageError, match="got model 'a' there and 'b' now .*--force"):
        Journal(path, {"model": "b", "steps": 1})
    path.write_text('{"key": ["x"]}\n')
    with pytest.raises(UsageError, match="expected the rows of an evaluation"):
        Journal(path, {"model": "a"})


def test_a_full_disk_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "rows.jsonl", {})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="No space left.*the same command goes on"):
        journal.add(KEY, ROW)
    assert len(journal) == 0
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StorageError, match="No space left.*the same command goes on"):
        keep(tmp_path / "files" / "a.jpg", b"data")


def test_a_run_goes_on_and_a_changed_picture_is_measured_again(
    small_folder: Path, fake_codec: Any, tmp_path: Path
) -> None:
    def go() -> tuple[int, list[Row]]:
        before = len(fake_codec.decode_options)
        result = run(
            list_pictures(small_folder),
            [coders.RcodecCoder(fake_codec, qualities=(20, 50))],
            Meter(),
            root=small_folder,
            journal=Journal(tmp_path / "rows.jsonl", {}),
            kept=tmp_path / "files",
        )
        return len(fake_codec.decode_options) - before, result.rows

    decoded, rows = go()
    assert decoded == 4
    file = tmp_path / "files" / "0.png" / "rcodec_quality=20.rdc"
    assert file.stat().st_size == rows[0].size_bytes
    assert go() == (0, rows)
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(small_folder / "1.png")
    decoded, others = go()
    assert decoded == 2 and others[:2] == rows[:2] and others[2:] != rows[2:]


def test_more_qualities_and_a_stop_between_keep_the_order_and_time_is_taken_alone(
    small_folder: Path, fake_codec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coding, overlaps = threading.Event(), []

    class Watched(coders.RcodecCoder):
        def encode(self, pixels: np.ndarray, setting: Any) -> bytes:
            if stop_at == setting.value:
                raise KeyboardInterrupt
            coding.set()
            try:
                return super().encode(pixels, setting)
            finally:
                coding.clear()

    class Watching(Meter):
        def whole(self, original: np.ndarray, decoded: np.ndarray) -> Any:
            overlaps.append(coding.is_set())
            return super().whole(original, decoded)

    def go(qualities: tuple[int, ...], name: str) -> Run:
        found, meter = Run(), Watching()
        journal = Journal(tmp_path / name, {})
        coder = Watched(fake_codec, qualities=qualities)
        given = {"root": small_folder, "journal": journal, "into": found}
        run(list_pictures(small_folder), [coder], meter, **given)
        return found

    monkeypatch.setattr(evaluation, "TOGETHER", 2)
    stop_at = None
    whole = go((20, 35, 50, 65, 80), "whole")
    stop_at = 65
    with pytest.raises(KeyboardInterrupt):
        go((20, 50, 65), "parts")
    stop_at = None
    assert len(Journal(tmp_path / "parts", {})) == 2  # what was coded together before
    again = go((20, 35, 50, 65, 80), "parts")
    assert [(r.picture, r.setting, r.bpp, r.figures) for r in again.rows] == [
        (r.picture, r.setting, r.bpp, r.figures) for r in whole.rows
    ]
    assert len(overlaps) == 10 + 2 + 8 and not any(overlaps)


def test_regions_go_on_too(picture_folder: Path, fake_codec: Any, tmp_path: Path) -> None:
    arguments = (fake_codec, picture_folder, tmp_path, command.Settings())
    first = command.evaluate_roi(*arguments, target_bpp=0.8, peer_names=())
    measured = len(fake_codec.decode_options)
    again = command.evaluate_roi(*arguments, target_bpp=0.8, peer_names=())
    # The page shows both files again; to measure, two more were decoded the first time.
    assert (measured, len(fake_codec.decode_options)) == (4, 6) and again.summary == first.summary
    assert [row["kind"] for row in again.content["rows"]] == ["uniform", "roi"]
    with pytest.raises(UsageError, match="target_bpp 0.8 there and 0.5 now"):
        command.evaluate_roi(*arguments, target_bpp=0.5)


def test_hidden_and_broken_files_are_listed_and_the_rest_reported(
    small_folder: Path, fake_codec: Any, tmp_path: Path
) -> None:
    (small_folder / "._0.png").write_bytes(b"Mac OS X")
    (small_folder / "9.png").write_bytes(b"no picture")
    settings = command.Settings(limit=3)
    result = command.evaluate_folder(
        fake_codec, small_folder, tmp_path / "out", settings, qualities=(50,), peer_names=()
    )
    assert [(s.picture, s.codec) for s in result.skipped] == [("._0.png", ""), ("9.png", "")]
    assert "hidden" in result.skipped[0].reason
    assert [point.pictures for point in result.curves["rcodec"]] == [2]
    shutil.copy(small_folder / "._0.png", small_folder / "._0_mask.png")
    assert [s.name for s in _masked(small_folder)] == ["0.png"]


def _masked(folder: Path) -> list[roi.MaskedPicture]:
    Image.fromarray(np.full((24, 32), 255, np.uint8)).save(folder / "0_mask.png")
    return roi.find_masked(folder)


def test_a_file_that_its_decoder_refuses_ends_no_run(small_folder: Path, fake_codec: Any) -> None:
    from rcodec_jax.errors import CorruptPayloadError

    def refuse(data: bytes, **options: Any) -> np.ndarray:
        raise CorruptPayloadError("bad symbols")

    fake_codec.decode = refuse
    own = coders.RcodecCoder(fake_codec, qualities=(50,))
    result = run(list_pictures(small_folder), [own], Meter(), root=small_folder)
    assert [s.reason for s in result.skipped] == ["bad symbols"] * 2
