"""`rcodec eval`: what it hands on, and that figures and words do not mix."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main
from rcodec_jax.evaluate import command
from rcodec_jax.evaluate.command import FolderResult, RoiResult
from rcodec_jax.evaluate.curves import CurvePoint
from rcodec_jax.evaluate.roi import RoiSummary
from rcodec_jax.evaluate.roirivals import Gain
from rcodec_jax.evaluate.run import Skipped


@pytest.fixture
def calls(monkeypatch) -> dict[str, dict]:
    """Stands in for both evaluations; options by name of the evaluation."""
    calls: dict[str, dict] = {}

    def stand_in(name, result):
        def evaluate(codec, folder, out, settings, **options):
            calls[name] = {"settings": settings, **options}
            options["progress"](1, 2, "half")
            return result

        monkeypatch.setattr(command, name, evaluate)

    curves = {
        "rcodec": [CurvePoint("rcodec", "bpp=0.1", 2, 0.1, {"psnr_db": 25.0}, 1.0, 2.0, model="m")]
    }
    skipped = [Skipped("c.png", "", "", "bad"), Skipped("a.png", "rcodec", "bpp=1", "too much")]
    stand_in(
        "evaluate_folder",
        FolderResult(curves, [], skipped, ["peer x left out"], True, {"figure": 1}),
    )
    summary = RoiSummary(1, 0.15, 0.97, False, 2.5, -1.0, None, None, 0, None, None, None, None)
    gains = [Gain("x265", "roi_psnr_db", 1.5, (1.0, 2.0), 3, 0.97, {"-0.2": 3})]
    stand_in(
        "evaluate_roi",
        RoiResult(summary, gains, ["peer y left out"], [("b.png", "small")], {"figure": 2}),
    )
    return calls


def test_options_are_handed_on_and_curves_tabled(codec, calls, tmp_path, capsys):
    words = ["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--rates", ".3,.1,.2"]
    assert main([*words, "--peers", "webp", "--limit", "3", "--steps", "2"]) == 0
    options = calls["evaluate_folder"]
    assert options["rates_bpp"] == (0.1, 0.2, 0.3) and options["peer_names"] == ["webp"]
    assert (options["settings"].limit, options["settings"].steps) == (3, 2)
    out, err = capsys.readouterr()
    assert err == "" and "LPIPS left out" in out and "plots left out" not in out
    assert "rcodec (m)  bpp=0.1  0.1000    25.00" in out and "model: fake\n" in out
    assert "1 pictures could not be read and are left out, for instance c.png: bad" in out
    assert "1 files could not be made, for instance a.png rcodec bpp=1: too much" in out


def test_masks_take_one_rate(codec, calls, tmp_path, capsys):
    words = ["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--masks"]
    assert main([*words, "--rates", ".1,.2"]) == 2
    assert "expected one rate" in capsys.readouterr().err
    assert main([*words, "--roi-strength", "0.5"]) == 0
    options = calls["evaluate_roi"]
    assert (options["target_bpp"], options["roi_id"], options["roi_strength"]) == (0.15, 1, 0.5)
    out = capsys.readouterr().out
    assert (
        "model: fake\n" in out
        and "0.9700 (NOT all pairs within 2 %)" in out
        and "PSNR +2.50 dB" in out
    )
    assert "quotient - (pooled -)" in out and "1 pictures or files left out" in out
    assert "peer_names" not in options and "peer y left out" in out
    assert "+1.50  +1.00 to +2.00     97.0         3    -0.2: 3" in out


def test_json_is_alone_on_standard_output(codec, calls, tmp_path, capsys):
    assert main(["eval", str(tmp_path), "--out", str(tmp_path / "report"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"figure": 1}
    assert "PSNR dB" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--roi-id", "2"],
        ["--roi-strength", "1"],
        ["--lpips", "missing"],
        ["--frechet"],
        ["--peers", "abacus"],
    ],
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


def test_the_same_command_goes_on_and_another_is_refused(codec, tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "pictures", tmp_path / "report"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((24, 32, 3), 99, np.uint8)).save(folder / f"{name}.png")
    words = ["eval", str(folder), "--out", str(out), "--rates", "1,2", "--peers", "none"]
    encode = codec.encode

    def stopped_at_the_third(*args, **options):
        if len(codec.calls) >= 4:
            raise KeyboardInterrupt
        return encode(*args, **options)

    monkeypatch.setattr(codec, "encode", stopped_at_the_third)
    assert main(words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len((out / "rows.csv").read_text().splitlines()) == 1 + 2
    monkeypatch.setattr(codec, "encode", encode)
    codec.calls.clear()
    assert main(words) == 0
    assert sum("image" in call for call in codec.calls) == 2, "the second picture's files"
    codec.calls.clear()
    assert main(words) == 0 and not any("image" in call for call in codec.calls)
    assert main([*words, "--steps", "3"]) == 2
    assert "got steps None there and 3 now" in capsys.readouterr().err
    assert main([*words, "--steps", "3", "--force"]) == 0
    assert sum("image" in call for call in codec.calls) == 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    assert main(["eval", str(folder), "--out", str(tmp_path / "other")]) == 2


def test_answers_to_a_study_are_counted(tmp_path, capsys):
    paths = []
    for person, chosen in (("x", ["rcodec", "avif"]), ("y", ["rcodec", "rcodec"])):
        answers = [
            {"picture": "a", "left": "avif", "right": "rcodec", "chosen": codec} for codec in chosen
        ]
        paths.append(str(tmp_path / person))
        content = {"study": "s", "person": person, "answers": answers}
        (tmp_path / person).write_text(json.dumps(content))
    assert main(["eval", "--study-results", *paths]) == 0
    out = capsys.readouterr().out
    assert "answers of 2 participants" in out
    assert "avif     75.0   30.1 to 95.4          3       4" in out
    assert main(["eval", "--study-results", *paths, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preferences"][0]["share"] == 0.75


@pytest.mark.parametrize(
    "words",
    [
        ["--study-results", "x", "--out", "y"],
        ["{folder}"],
        ["--out", "y"],
        ["{folder}", "--out", "y", "--study-seed", "1"],
        ["{folder}", "--out", "y", "--study", "--masks"],
        ["{folder}", "--out", "y", "--study", "--peers", "none"],
    ],
)
def test_options_that_do_not_go_together(words, tmp_path, capsys):
    assert main(["eval", *(word.format(folder=tmp_path) for word in words)]) == 2
    assert "expected" in capsys.readouterr().err
