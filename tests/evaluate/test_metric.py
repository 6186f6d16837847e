"""A metric is one entry of `METRICS`: rows, curves, files, page and terminal follow."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcodec_jax.cli import eval as cli
from rcodec_jax.evaluate import command
from rcodec_jax.evaluate.metric import LOWER, METRICS, Metric
from rcodec_jax.metrics import fidelity


def test_a_new_entry_is_in_all_that_a_run_gives(
    picture_folder: Path, tmp_path: Path, fake_codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("ms_ssim", "ssimulacra2"):
        monkeypatch.setitem(METRICS, slow, replace(METRICS[slow], min_side_px=1000))
    entry = Metric("error", "Squared error", 5, LOWER, fidelity.mse, unit=" (of 1)", heading="SE")
    monkeypatch.setitem(METRICS, "error", entry)
    given = (fake_codec, picture_folder, tmp_path, command.Settings(limit=1))
    result = command.evaluate_folder(*given, qualities=(20, 40, 60), peer_names=("jpeg",))
    figures = [point.figures for point in result.curves["rcodec"]]
    errors = [float(f["error"] or 0) for f in figures]
    decibels = [float(f["psnr_db"] or 0) for f in figures]
    np.testing.assert_allclose(-10 * np.log10(errors), decibels, atol=1e-4)
    assert [b.metric for b in result.bd_rates] == ["psnr_db", "error"]
    for name in ("rows.csv", "curves.csv"):
        with (tmp_path / name).open() as stream:
            own = [row for row in csv.DictReader(stream) if row["codec"] == "rcodec"]
        assert [float(row["error"]) for row in own] == errors
    written = json.loads((tmp_path / "report.json").read_text())
    assert [point["error"] for point in written["curves"]["rcodec"]] == errors
    page = (tmp_path / "report.html").read_text()
    assert "Squared error (of 1), lower is better (up)" in page
    assert f"Squared error {errors[1]:.5f}" in page, "the figures below a crop"
    curves, differences = "\n".join(cli._folder_lines(result)).split("Rate difference")
    assert "  SE  " in curves and f"{errors[1]:.5f}" in curves
    assert "Squared error" in differences
