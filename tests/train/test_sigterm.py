"""The command itself: stopped by SIGTERM, run again, bitwise the run that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config

STEPS = 60

RECIPE = """
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig

def config():
    model = ModelConfig(
        latent_channels=3,
        autoencoder=AutoencoderConfig(channels=(4,), patch=8),
        unet=UNetConfig(channels=(4,), time_features=8),
        hyper=HyperConfig(hyper_channels=3, analysis=4, synthesis=(4, 4, 4), classes=4),
    )
    stage = StageConfig(steps=STEPS, batch_size=4, crop_px=64, warmup=5)
    return Config("pico", model, TrainConfig((stage,), log_every=1, save_every=25, sample_every=0))
""".replace("STEPS", str(STEPS))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_stopped_by_sigterm_and_started_again(pictures, tools, tmp_path: Path) -> None:
    recipe = tmp_path / "pico.py"
    recipe.write_text(RECIPE)
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    environment |= {"PYTHONPATH": str(root)}

    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "rcodec_jax.cli", "train", str(recipe)]
        command += ["--data", str(pictures), "--workdir", str(tmp_path / name)]
        return subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )

    whole = start("whole")
    _, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said

    stopped = start("parts")
    log = tmp_path / "parts" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (log.exists() and log.read_text().count("\n") >= 10):
        assert stopped.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate(timeout=300)
    assert stopped.returncode == 75, said
    assert "stopped by SIGTERM at step" in said and "Traceback" not in said
    finished = tools.metrics(tmp_path / "parts")[-1]["step"]
    assert 10 <= finished < STEPS

    again = start("parts")
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"step {finished} of {STEPS}" in said
    assert [row["step"] for row in tools.metrics(tmp_path / "parts")] == list(range(1, STEPS + 1))

    config = load_config(recipe, Config)
    states = [tools.state(config, tmp_path / name) for name in ("whole", "parts")]
    assert states[0][".step"] == STEPS
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value, err_msg=name)
