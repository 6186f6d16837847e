"""Folders and many files in one run: names, trees, going on past bad files, resuming."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli import batch
from rcodec_jax.cli.main import main
from rcodec_jax.codec.many import FirstAlone, in_order, programs_of
from rcodec_jax.errors import UsageError
from rcodec_jax.files import PICTURES


def save(path: Path, side: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side + 1, 3), side, np.uint8)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of four pictures, two of one name, and files that are none."""
    root = tmp_path / "photos"
    save(root / "a.png", 9)
    save(root / "trip" / "b.JPG", 12)
    save(root / "trip" / "c.png", 17)
    save(root / "trip" / "c.bmp", 18)
    save(root / ".hidden" / "d.png")
    (root / "notes.txt").write_text("no picture")
    return root


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_there_and_back(codec, tree, tmp_path, capsys):
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["encode", f"{tree}{os.sep}", "--out", str(out), "--bpp", "2"]) == 0
    # The two pictures that would have one name keep their extensions.
    assert files_below(out) == ["a.rdc", "trip/b.rdc", "trip/c.bmp.rdc", "trip/c.png.rdc"]
    assert [call["bpp"] for call in codec.calls] == [2.0] * 4
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 5 and "4 of 4 files" in printed.out
    assert "rcodec: note: trip/c.png: a note\n" in printed.err
    assert main(["decode", str(out), "--out", str(back), "--format", "webp"]) == 0
    assert files_below(back)[2:] == ["trip/c.bmp.webp", "trip/c.png.webp"]
    with Image.open(back / "a.webp") as picture:
        assert picture.format == "WEBP" and picture.size == (10, 9)


def test_bad_files_are_passed_over_and_listed(codec, tree, tmp_path, capsys):
    bad = tree / "bad.png"
    bad.write_bytes(b"no picture")
    assert main(["encode", str(tree), "--out", str(tmp_path / "out")]) == batch.SOME_FAILED == 1
    out, err = capsys.readouterr()
    assert len(files_below(tmp_path / "out")) == 4
    assert "4 of 5 files" in out
    assert f"rcodec: error: {bad}: not an image" in err and err.count(str(bad)) == 1
    assert err.splitlines()[-1] == "rcodec: error: 1 of 5 files failed, as reported above"


def test_where_a_bar_is_shown_failures_are_listed_at_the_end(
    codec, tree, tmp_path, capsys, monkeypatch
):
    """Among a thousand files nobody sees what scrolls by."""
    bad = tree / "bad.png"
    bad.write_bytes(b"no picture")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["encode", str(tree), "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "1 failed, " in err and err.count(str(bad)) == 1
    *_, head, last = err.splitlines()
    assert head.endswith("rcodec: error: 1 of 5 files failed:")
    assert last.startswith(f"  {bad}: not an image")


def test_an_interrupted_run_lists_what_failed_so_far(codec, tree, tmp_path, capsys, monkeypatch):
    bad, saved = tree / "a0.png", codec.encode_detailed
    bad.write_bytes(b"no picture")

    def interrupted(image, **options):
        if image.shape[0] > 12:
            raise KeyboardInterrupt
        return saved(image, **options)

    monkeypatch.setattr(codec, "encode_detailed", interrupted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["encode", str(tree), "--out", str(tmp_path / "out"), "--workers", "1"]) == 130
    err = capsys.readouterr().err
    assert f"1 of 5 files failed:\n  {bad}: not an image" in err
    assert err.endswith("rcodec: interrupted\n")


def test_a_run_that_coded_nothing_counts_no_bytes(codec, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    words = ["encode", str(tmp_path / "bad.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out.startswith("0 of 1 file, ") and "bytes" not in out
    assert "1 of 1 file failed" in err


def test_a_folder_that_cannot_be_read_is_an_error(codec, tree, tmp_path, capsys, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "trip":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert main(["encode", str(tree), "--out", str(tmp_path / "out")]) == 2
    assert f"{tree / 'trip'}: " in capsys.readouterr().err
    assert not codec.calls


def test_formats_may_have_a_dot(codec, tree, tmp_path):
    out, back = tmp_path / "out", tmp_path / "back"
    assert main(["encode", str(tree / "a.png"), "--out", str(out)]) == 0
    assert main(["decode", str(out), "--out", str(back), "--format", ".PNG"]) == 0
    assert files_below(back) == ["a.png"]


def test_json_has_all_files_and_what_failed(codec, tree, tmp_path, capsys):
    (tree / "bad.png").write_bytes(b"no picture")
    assert main(["encode", str(tree), "--out", str(tmp_path / "out"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [figures["width_px"] for figures in told["files"]] == [10, 13, 19, 18]
    assert [item["input"] for item in told["failed"]] == [str(tree / "bad.png")]
    assert all(os.path.getsize(f["output"]) == f["bytes"] for f in told["files"])
    for path in (tmp_path / "out").rglob("*.rdc"):
        path.write_bytes(path.read_bytes()[:-1])
    assert main(["info", str(tmp_path / "out"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [] and len(told["failed"]) == 4


def test_what_is_there_needs_a_word(codec, tree, tmp_path, capsys):
    words = ["encode", str(tree), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (tmp_path / "out" / "a.rdc").unlink()
    os.utime(tree / "trip" / "c.png", (time.time() + 60,) * 2)  # changed since
    damaged = tmp_path / "out" / "trip" / "b.rdc"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    codec.calls.clear()
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err and not codec.calls
    assert main([*words, "--resume"]) == 0
    assert sorted(call["image"].shape[0] for call in codec.calls) == [9, 12, 17]
    assert "3 of 4 files, 1 skipped" in capsys.readouterr().out


def test_several_folders_and_files(codec, tree, tmp_path):
    save(tmp_path / "more" / "a.png")
    save(tmp_path / "single.png")
    words = [str(tree), str(tmp_path / "more"), str(tmp_path / "single.png")]
    jobs = batch.jobs(words, "out", extensions=PICTURES, extension=".rdc")
    targets = {Path(job.target).as_posix() for job in jobs}
    assert {"out/photos/a.rdc", "out/more/a.rdc", "out/single.rdc"} <= targets
    with pytest.raises(UsageError, match="different names"):
        batch.jobs([words[2], words[2]], "out", extensions=PICTURES, extension=".rdc")


def test_results_inside_the_folder_are_no_input(codec, tree):
    out = tree / "coded"
    save(out / "old.png")
    jobs = batch.jobs([str(tree)], str(out), extensions=PICTURES, extension=".rdc")
    assert not any("coded" in job.name for job in jobs)


def test_a_folder_of_masks(codec, tree, tmp_path):
    for name, side in (("a.bmp", 9), ("trip/b.png", 12)):
        mask = np.zeros((side, side + 1), np.uint8)
        mask[0] = 255
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    words = ["encode", str(tree), "--out", str(tmp_path / "out"), "--roi", str(tmp_path / "masks")]
    assert main(words) == 1  # two have no mask
    maps = {call["image"].shape[0]: call["importance"] for call in codec.calls}
    assert sorted(maps) == [9, 12]
    assert maps[9][0].min() == 1 and maps[9][1:].max() == 0


def test_sizes_in_words():
    assert batch.saved_in_words(12_000_000, 480_000) == "12.0 MB -> 480.0 kB, 96 % saved"
    assert batch.saved_in_words(100, 120) == "100 bytes -> 120 bytes"


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_errors_of_work_at_the_same_time(workers):
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01 if item % 2 else 0)
        if item == 5:
            raise UsageError("five")
        return item * item

    done: list[int] = []
    with pytest.raises(UsageError, match="five"):
        for result in in_order(work, range(100), workers=workers):
            done.append(result)
    assert done == [0, 1, 4, 9, 16]
    assert max(begun) < 5 + 2 * workers


def test_the_first_of_a_kind_runs_alone():
    first_alone, running, most = FirstAlone(), [0], {"first": 0}
    finished = threading.Event()

    def work(index: int) -> None:
        with first_alone("kind"):
            running[0] += 1
            if not finished.is_set():
                time.sleep(0.02)
                most["first"] = max(most["first"], running[0])
                finished.set()
            running[0] -= 1

    list(in_order(work, range(6), workers=3))
    assert most["first"] == 1
    with pytest.raises(ValueError), first_alone("other"):
        raise ValueError
    with first_alone("other"):  # the first failed, so this one is the first
        pass


def test_programs_follow_buckets():
    assert programs_of(100, 120) == programs_of(128, 128) != programs_of(129, 128)
    assert programs_of(2040, 3060) == programs_of(2000, 3000) != programs_of(4000, 6000)
