"""The model of the paper on one machine: coding within 16 GB, two steps of tuning within 20."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.config.presets import SD21_UNET, stable_diffusion
from rcodec_jax.model.networks import parameter_shapes
from rcodec_jax.model.weights import open_weights
from rcodec_jax.model.weights_writer import WeightsWriter

pytestmark = pytest.mark.large
ROOT = Path(__file__).parents[2]

RECIPE = """
import dataclasses
from rcodec_jax.config.presets import SD21_UNET, fine_tuning, stable_diffusion
from rcodec_jax.config.train import Config, MeshConfig

def config():
    train = fine_tuning()
    stage = dataclasses.replace(
        train.stages[1], steps=2, batch_size=1, crop_px=64, warmup=1, learning_rate=1e-4
    )
    return Config("tuned", stable_diffusion(SD21_UNET), dataclasses.replace(
        train, stages=(stage,), optimizer="adafactor", ema_decay=None, dtype="float32",
        mesh=MeshConfig(), sample_every=0,
    ))
"""


def rcodec(*words: object) -> tuple[float, float]:
    """Runs a command; its seconds and the most memory it held, in GB."""
    code = (
        "import resource, sys; from rcodec_jax.cli.main import main; code = main(sys.argv[1:]); "
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, peak = time.perf_counter() - start, int(done.stdout.split("PEAK")[1]) * 1024 / 1e9
    print(f"{words[0]}: {seconds:.0f} s, {peak:.1f} GB")
    return seconds, peak


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of the paper's model in half precision, one tensor at a time."""
    folder = tmp_path_factory.mktemp("paper") / "weights"
    config = stable_diffusion(SD21_UNET)
    rng = np.random.default_rng(0)
    with WeightsWriter(folder, config, shift=np.zeros(4), power=30.0) as writer:
        for name, shape in parameter_shapes(config).items():
            if len(shape) == 1:
                value = np.full(shape, float(name.endswith("/scale")), np.float32)
            else:
                value = rng.standard_normal(shape, np.float32) / math.sqrt(math.prod(shape[:-1]))
            writer.add(name, value.astype(np.float16))
    return folder


@pytest.fixture(scope="module")
def bundle(weights: Path) -> Path:
    """The same, frozen."""
    folder = weights.parent / "bundle"
    _, peak = rcodec("freeze", weights, "--out", folder)
    assert peak < 2
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_photo_within_16_gb(bundle: Path, dtype: str, tmp_path) -> None:
    Image.fromarray(data.astronaut()).resize((768, 512)).save(tmp_path / "photo.png")
    given = ("--model", bundle, "--dtype", dtype)
    _, peak = rcodec("encode", tmp_path / "photo.png", tmp_path / "photo.rdc", *given)
    assert peak < 8
    _, peak = rcodec("decode", tmp_path / "photo.rdc", tmp_path / "out.png", *given, "--steps", 1)
    assert peak < 16
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (768, 512)


def test_two_steps_from_weights_within_20_gb(weights: Path, tmp_path) -> None:
    (tmp_path / "tuned.py").write_text(RECIPE)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(data.astronaut()).save(tmp_path / "pictures" / "astronaut.png")
    run = tmp_path / "run"
    given = ("--data", tmp_path / "pictures", "--workdir", run, "--init-from", weights)
    _, peak = rcodec("train", tmp_path / "tuned.py", *given)
    assert peak < 20
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2 and all(math.isfinite(value) for value in last.values())
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        after = checkpoints.restore_params(("params",))["params"]
    before = open_weights(weights)
    for name, moves in (
        ("unet/conv_in/conv/kernel", True),
        ("unet/head/conv_out/conv/kernel", True),
        ("hyper_analysis/conv_in/conv/kernel", True),
        ("encoder/conv_in/conv/kernel", False),
        ("decoder/head/conv_out/conv/kernel", False),
    ):
        value = after
        for key in name.split("/"):
            value = value[key]
        start = before.read(name).astype(np.float32)
        assert np.array_equal(value, start) != moves, name
        assert np.abs(value - start).max() < 1e-3  # two steps, not another model
