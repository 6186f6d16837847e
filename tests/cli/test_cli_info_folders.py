"""`rcodec info` of what training reads and leaves: from JSON alone, without JAX."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.cli.main import main
from rcodec_jax.config import to_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig

NANO = Path(__file__).parents[1] / "golden" / "nano"


def told(capsys, path, *words) -> str:
    assert main(["info", str(path), *words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def workdir(tmp_path) -> Path:
    """A run as its files tell of it, after 30 of 50 steps."""
    config = Config("small", ModelConfig(), TrainConfig((StageConfig(steps=50),)))
    start = {
        "step": 0,
        "started": "2026-01-01T00:00:00+00:00",
        "command": ["rcodec", "train"],
        "commit": "abc+",
        "packages": {"rcodec-jax": "1.0"},
        "data": {"pictures": 5, "digest": "12" * 32},
        "config": to_dict(config),
    }
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoints" / "30"
    (checkpoint / "metrics").mkdir(parents=True)
    (folder / "checkpoints" / "20").mkdir()
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    (folder / "manifest.jsonl").write_text(json.dumps(start) + "\n")
    rows = [{"step": 20, "loss": 2.0}, {"step": 30, "loss": 1.25, "bpp": 0.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"step": 30, "map": "region", "psnr_inside": 31.5, "bpp": 0.25}
    (folder / "validation.jsonl").write_text(json.dumps(row | {"step": 20}) + "\n")
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    (checkpoint / "_CHECKPOINT_METADATA").write_text(json.dumps({"custom_metadata": start}))
    (checkpoint / "metrics" / "metrics").write_text(json.dumps({"validation": 0.75, "stage": 0}))
    return folder


def test_a_run(workdir, capsys) -> None:
    figures = json.loads(told(capsys, workdir, "--json"))
    assert figures["kind"] == "run" and figures["checkpoints"] == [20, 30]
    assert figures["steps"] == 50 and figures["finished"] is False
    assert [row["step"] for row in figures["validation"]] == [30]
    words = told(capsys, workdir)
    for part in (
        "small: joint (50 steps)",
        "30 of 50 steps done, not finished",
        "training, step 30: loss 1.25  bpp 0.5",
        "validation, step 30, region: bpp 0.25  psnr_inside 31.5",
        "rcodec 1.0, commit abc+",
        "data: 5 pictures, digest 1212121212121212",
    ):
        assert part in words
    (workdir / "checkpoints" / "50").mkdir()
    assert "50 of 50 steps done, finished" in told(capsys, workdir)


def test_a_checkpoint(workdir, capsys) -> None:
    words = told(capsys, workdir / "checkpoints" / "30")
    assert "step 30 of small" in words and "metrics: validation 0.75" in words


def test_a_bundle_without_jax() -> None:
    manifest = json.loads((NANO / "bundle.json").read_text())
    code = "import sys; from rcodec_jax.cli.main import main; main(sys.argv[1:])"
    code += "; assert 'jax' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(NANO)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"integers {manifest['integer_digest']}" in done.stdout
    assert "4 latent channels" in done.stdout


def test_weights(tmp_path, capsys) -> None:
    manifest = {"model": {}, "card": {"name": "sd"}, "source": {"diffusers": "sd"}}
    (tmp_path / "weights.json").write_text(json.dumps(manifest))
    index = {"weight_map": {"a": "1", "b": "1", "c": "2"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    words = told(capsys, tmp_path)
    assert "sd: 3 tensors in 2 files" in words and 'from {"diffusers": "sd"}' in words
    (tmp_path / "weights.json").write_text("{}")
    assert main(["info", str(tmp_path)]) == 2
    assert "weights.json: cannot be read, it is damaged" in capsys.readouterr().err


def test_packed_data_and_photos(tmp_path, capsys) -> None:
    (tmp_path / "p").mkdir()
    for index in range(3):
        pixels = np.full((16, 16, 3), index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "p" / f"{index}.png")
    photos = tmp_path / "photos.npz"
    pack = ["data", "pack", str(tmp_path / "p"), str(tmp_path / "packed"), "--workers", "1"]
    made = ["data", "photos", str(tmp_path / "p"), "--out", str(photos), "--max-mb", "1"]
    assert main(pack) == 0 and main(made) == 0
    capsys.readouterr()
    for path in (tmp_path / "packed", photos):
        figures = json.loads(told(capsys, path, "--json"))
        assert figures["kind"] == "data" and figures["pictures"] == 3
        assert "3 pictures" in told(capsys, path)
    for words in (["--model", "x"], ["--bits-map", "x.png"]):
        assert main(["info", str(photos), *words]) == 2
        assert f"{words[0]}: expected an rcodec file" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "packed")]) == 0
    out = capsys.readouterr().out
    assert "ok: " in out and "checked, no differences" in out
