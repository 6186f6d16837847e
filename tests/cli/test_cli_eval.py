"""`rcodec eval`: what it hands on, and that figures and words do not mix."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main


@pytest.fixture
def calls(monkeypatch) -> dict[str, dict]:
    """Stands in for both evaluations; options by name of the evaluation."""
    calls: dict[str, dict] = {}

    def stand_in(name):
        def evaluate(codec, folder, out, **options) -> dict:
            calls[name] = options
            options["progress"](1, 2, "half")
            options["say"]("words")
            return {"figure": 1}

        return evaluate

    for name in ("evaluate_folder", "evaluate_roi"):
        monkeypatch.setattr(f"rcodec_jax.evaluate.command.{name}", stand_in(name))
    return calls


def test_options_are_handed_on(codec, calls, tmp_path, capsys):
    words = ["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--rates", ".3,.1,.2"]
    assert main([*words, "--peers", "webp", "--limit", "3", "--steps", "2"]) == 0
    options = calls["evaluate_folder"]
    assert options["rates_bpp"] == (0.1, 0.2, 0.3)
    assert (options["peer_names"], options["limit"], options["steps"]) == (["webp"], 3, 2)
    assert capsys.readouterr() == ("words\n", "")


def test_masks_take_one_rate(codec, calls, tmp_path, capsys):
    words = ["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--masks"]
    assert main([*words, "--rates", ".1,.2"]) == 2
    assert "expected one rate" in capsys.readouterr().err
    assert main([*words, "--roi-strength", "0.5"]) == 0
    options = calls["evaluate_roi"]
    assert (options["target_bpp"], options["roi_id"], options["roi_strength"]) == (0.15, 1, 0.5)


def test_json_is_alone_on_standard_output(codec, calls, tmp_path, capsys):
    assert main(["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"figure": 1}
    assert err == "words\n"


@pytest.mark.parametrize(
    "words",
    [["--roi-id", "2"], ["--roi-strength", "1"], ["--lpips", "missing"], ["--peers", "abacus"]],
)
def test_bad_choices(codec, photo, tmp_path, words, capsys):
    assert main(["eval", str(tmp_path), "--out", str(tmp_path / "report"), *words]) == 2
    assert capsys.readouterr().err.count("rcodec: error: ") == 1
    assert not (tmp_path / "report").exists()


def test_a_small_run_leaves_its_report(codec, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")
    out = tmp_path / "report"
    assert main(["eval", str(folder), "--out", str(out), "--rates", "1,2", "--peers", "jpeg"]) == 0
    assert {"rows.csv", "curves.csv", "report.json"} <= {path.name for path in out.iterdir()}
    assert "jpeg" in capsys.readouterr().out
    assert len((out / "rows.csv").read_text().splitlines()) > 2 * 2
    assert main(["eval", str(folder), "--out", str(out)]) == 2
