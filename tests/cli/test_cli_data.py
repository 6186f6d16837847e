"""rcodec data and rcodec bench data: what they print, where they stop."""

from __future__ import annotations

import json

import grain  # noqa: F401  (its first import draws a random number, which a test may not)
import jax  # noqa: F401
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main
from rcodec_jax.data import LatentSet
from rcodec_jax.model.bundle import shipped_bundle


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (72, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    for index in range(12):
        (folder / f"bad{index:02d}.jpg").write_text("no picture")
    return folder


def output_of(capsys, *words, code=0):
    assert main(["data", *map(str, words)]) == code
    return capsys.readouterr()


def test_pack_check_and_info(pictures, tmp_path, capsys):
    out = tmp_path / "packed"
    said = output_of(capsys, "pack", pictures, out, "--workers", 1, "--json")
    figures = json.loads(said.out)
    assert (figures["records"], figures["skipped"], figures["encoded_anew"]) == (3, 12, 0)
    notes = said.err.splitlines()
    assert notes[0].startswith("rcodec: note: skipped bad00.jpg: not an image")
    assert len(notes) == 11 and notes[10].startswith("rcodec: note: 2 more skipped, see ")

    said = output_of(capsys, "check", out)
    assert said.out.splitlines()[1] == f"digest {figures['digest']}"
    info = json.loads(output_of(capsys, "info", out, "--json").out)
    assert info["digest"] == figures["digest"]
    assert (info["kind"], info["pictures"], info["pixels"]) == ("images", 3, 3 * 72 * 80)
    assert "3 images" in output_of(capsys, "info", pictures).out

    (shard,) = out.glob("images-*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    said = output_of(capsys, "check", out, code=2)
    assert "expected SHA-256" in said.err and said.err.count("\n") == 1


def test_latents(pictures, tmp_path, capsys):
    words = ("--model", shipped_bundle(), "--crop-px", 64, "--records", 4, "--batch", 8)
    said = output_of(capsys, "latents", pictures, tmp_path / "out", *words, "--json")
    assert json.loads(said.out)["records"] == 4
    source = LatentSet(tmp_path / "out")
    assert source.shape[:2] == (8, 8) and np.isfinite(source[3]).all()
    assert "4 latents" in output_of(capsys, "info", tmp_path / "out").out
    assert "4 latents" in output_of(capsys, "check", tmp_path / "out").out
    # Done already: nothing is encoded again, other options are another set.
    output_of(capsys, "latents", pictures, tmp_path / "out", *words)
    said = output_of(capsys, "latents", pictures, tmp_path / "out", *words, "--seed", 1, code=2)
    assert "--force replaces it" in said.err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("pack",),
        ("pack", "absent", "out"),
        ("pack", ".", "out"),
        ("pack", ".", "out", "--max-side", "1"),
        ("check", "absent"),
        ("check", "."),
        ("info", "absent"),
        ("info", "*.array_record"),
        ("latents", "absent", "out", "--model", "m"),
        ("latents", ".", "out"),
        ("latents", ".", "out", "--model", "m", "--crop-px", "100"),
        ("latents", ".", "out", "--model", "m", "--passes", "0"),
        ("latents", ".", "out", "--model", "m", "--passes", "1", "--records", "1"),
    ],
)
def test_bad_input_takes_one_line_and_code_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = output_of(capsys, *words, code=2)
    assert said.out == ""
    assert said.err.startswith("rcodec: error: ") and said.err.count("\n") == 1


def test_bench_data(pictures, capsys):
    words = ["bench", "data", str(pictures), "--crop-px", "64", "--batch", "2"]
    words += ["--seconds", "0.05", "--step-seconds", "0.01"]
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["needed_crops_per_s"] == pytest.approx(200)
    row_bytes = 64 * 64 * 3 + 8 * 8 + 16 * 4
    for row in figures["rows"]:
        assert row["mb_per_s"] == pytest.approx(row["crops_per_s"] * row_bytes / 1e6)
        assert 0 <= row["wait_share"] <= 1 and row["crops_per_core_s"] > 0
    assert figures["jpeg_decoders"][0]["name"] == "Pillow"
    assert main(words) == 0
    assert "a step of 0.01 s needs 200.0 crops/s" in capsys.readouterr().out
