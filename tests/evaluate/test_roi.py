"""The region-of-interest protocol on a stand-in codec that really favours the region."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate import command, roi
from rcodec_jax.evaluate.meter import Meter


def test_masks_are_found_beside_their_pictures(picture_folder: Path) -> None:
    found = roi.find_masked(picture_folder)
    assert [(m.name, m.mask.name, m.labels) for m in found] == [
        ("a.png", "a_inst.png", True),
        ("b.png", "b_mask.png", False),
    ]
    with pytest.raises(UsageError, match="_inst.png"):
        roi.find_masked(picture_folder / "sub")


def test_equal_bytes_and_a_better_region(
    picture_folder: Path, fake_codec: Any, tmp_path: Path
) -> None:
    run = roi.run_roi(
        fake_codec,
        roi.find_masked(picture_folder),
        Meter(),
        target_bpp=0.8,
        roi_strength=1.0,
        panels=tmp_path,
    )
    assert [(r.picture, r.kind) for r in run.rows] == [("a.png", "uniform"), ("a.png", "roi")]
    assert run.skipped == [("b.png", "the object covers 1.3 %")]
    uniform, favoured = run.rows
    assert uniform.coverage == pytest.approx(100 * 80 / (170 * 186))
    assert uniform.size_bytes == favoured.size_bytes and uniform.bpp <= 0.8
    assert favoured.roi_psnr_db > uniform.roi_psnr_db + 1
    assert favoured.background_psnr_db < uniform.background_psnr_db
    summary = roi.summarise_roi(run.rows)
    assert summary.pictures == summary.band_pictures == 1 and summary.equal_bytes
    assert summary.roi_psnr_gain_db == pytest.approx(favoured.roi_psnr_db - uniform.roi_psnr_db)
    assert summary.roi_lpips_gain is None
    assert favoured.band_ratio == pytest.approx(favoured.band_mse / favoured.interior_mse)  # type: ignore[operator]
    quotient = favoured.band_ratio / uniform.band_ratio  # type: ignore[operator]
    assert summary.band_quotient == pytest.approx(quotient)
    assert summary.band_quotient_pooled == pytest.approx(quotient)
    with Image.open(tmp_path / "a.png") as panel:
        assert panel.size == (4 * 186 + 3 * 4, 170)


def test_a_region_is_scored_in_a_picture_that_is_the_original_around_it() -> None:
    rng = np.random.default_rng(0)
    original, other = rng.integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    mask = np.zeros((40, 48), np.float32)
    mask[8:24, 8:32] = 1
    inside = np.where(mask[..., None] > 0, other, original)
    found = [Meter().region(original, x, mask) for x in (other, inside, original)]
    assert found[0].roi_ssimulacra2 == pytest.approx(found[1].roi_ssimulacra2)
    assert found[0].roi_ssimulacra2 == pytest.approx(
        Meter().whole(original, inside)["ssimulacra2"], abs=1e-2
    )
    assert found[2].roi_ssimulacra2 == 100


def test_the_uniform_file_comes_down_if_the_region_file_stops_short(
    picture_folder: Path, sloppy_codec: Any
) -> None:
    run = roi.run_roi(sloppy_codec, roi.find_masked(picture_folder), Meter(), target_bpp=0.8)
    assert run.rows[0].bytes_ratio == 1
    assert run.rows[0].bpp < 0.75


def test_summary_flags_unequal_bytes_and_averages_over_pictures(
    picture_folder: Path, fake_codec: Any
) -> None:
    rows = roi.run_roi(fake_codec, roi.find_masked(picture_folder), Meter(), target_bpp=0.8).rows
    other = [dataclasses.replace(r, picture="z", bytes_ratio=0.97) for r in rows]
    other[1] = dataclasses.replace(other[1], roi_psnr_db=other[0].roi_psnr_db + 3, band_ratio=None)
    summary = roi.summarise_roi([*rows, *other])
    gains = [rows[1].roi_psnr_db - rows[0].roi_psnr_db, 3]
    assert summary.roi_psnr_gain_db == pytest.approx(sum(gains) / 2)
    assert not summary.equal_bytes and summary.worst_bytes_ratio == 0.97
    assert summary.pictures == 2 and summary.band_pictures == 1
    none_banded = [dataclasses.replace(r, band_ratio=None) for r in rows]
    assert roi.summarise_roi(none_banded).band_quotient is None
    with pytest.raises(UsageError, match="no pairs"):
        roi.summarise_roi([])


def test_the_whole_command(picture_folder: Path, tmp_path: Path, fake_codec: Any) -> None:
    settings = command.Settings(steps=2, card={"name": "fake", "steps": 7})
    result = command.evaluate_roi(
        fake_codec, picture_folder, tmp_path, settings, target_bpp=0.8, peer_names=()
    )
    content = result.content
    assert json.loads((tmp_path / "roi.json").read_text()) == content
    assert content["summary"]["pictures"] == 1 and len(content["rows"]) == 2
    assert [row["model"] for row in content["rows"]] == ["fake, 7 steps"] * 2
    assert {"command", "date", "versions", "machine"} <= set(content)
    assert (tmp_path / "roi.csv").read_text().count("\n") == 3
    assert (tmp_path / "panels" / "a.png").is_file()
    assert result.summary.pictures == 1 and result.skipped
    # Both files once to measure them, and once for the page.
    assert fake_codec.decode_options == [{"steps": 2, "trajectory": "proportional"}] * 4
