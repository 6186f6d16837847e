"""Runs of a tiny model by several processes on this machine, through launch/local.sh."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900.0
"""For a run; the machine may be busy with other things."""

RECIPE = """
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import (
    Config, MeshConfig, StageConfig, TrainConfig, ValidationConfig,
)

def config():
    model = ModelConfig(
        latent_channels=4,
        autoencoder=AutoencoderConfig(channels=(64,), patch=8),  # wide enough to be split
        unet=UNetConfig(channels=(8,), time_features=8),
        hyper=HyperConfig(hyper_channels=4, analysis=4, synthesis=(4, 4, 4), classes=4),
    )
    stages = (
        StageConfig("autoencoder", steps=9, batch_size=8, crop_px=64, warmup=2),
    )
    return Config("pico", model, TrainConfig(
        stages, log_every=1, save_every=3, sample_every=6, keep_latest=9,
        mesh=MeshConfig(data=2, fsdp=2, tensor=2),
        validation=ValidationConfig(data="made:3", every=6, crop_px=64),
    ))
"""
STEPS = 9


class Launched:
    """A run under the launcher.

    Attributes:
      workdir: of the run.
      folder: what lies around it.
    """

    def __init__(self, folder: Path, processes: int, devices: int, *arguments: str) -> None:
        self.folder, self.workdir = folder, folder / "run"
        folder.mkdir(exist_ok=True)
        self._said = (folder / "launcher.log").open("w+", encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "RCODEC": f"{sys.executable} -m rcodec_jax.cli",
            "PYTHON": sys.executable,
        }
        local = ["bash", str(ROOT / "launch" / "local.sh"), "-n", str(processes)]
        local += ["-d", str(devices // processes), "-l", str(folder / "logs")]
        self._launcher = subprocess.Popen(
            [*local, *arguments, "--workdir", str(self.workdir)],
            env=environment,
            stderr=self._said,
        )

    @property
    def said(self) -> str:
        """What the launcher said until now."""
        return (self.folder / "launcher.log").read_text(encoding="utf-8")

    def pids(self, attempt: int) -> dict[int, int]:
        """Process ids of an attempt (0 is the first) by number, as far as they are started."""
        found = re.findall(r"process (\d) is pid (\d+)", self.said)
        by_attempt: list[dict[int, int]] = []
        for number, pid in found:
            if number == "0":
                by_attempt.append({})
            by_attempt[-1][int(number)] = int(pid)
        return by_attempt[attempt] if attempt < len(by_attempt) else {}

    def wait_until(self, happened: Any) -> None:
        """Asks `happened()` until it is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self._launcher.poll() is None, f"ended early:\n{self.told()}"
            assert time.monotonic() < deadline, f"took too long:\n{self.told()}"
            time.sleep(0.002)

    def kill(self, attempt: int, process: int, number: signal.Signals) -> None:
        """Sends a signal to one of the processes."""
        os.kill(self.pids(attempt)[process], number)

    def wait(self) -> int:
        """The launcher's exit code, once it ends."""
        try:
            return self._launcher.wait(PATIENCE_S)
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends whatever still runs."""
        if self._launcher.poll() is None:
            self._launcher.terminate()
            try:
                self._launcher.wait(10)
            except subprocess.TimeoutExpired:
                for attempt in range(9):
                    for pid in self.pids(attempt).values():
                        try:
                            os.kill(pid, signal.SIGKILL)
                        except ProcessLookupError:
                            continue
                self._launcher.wait(30)
        self._said.close()

    def told(self) -> str:
        """What all logs say, for the message of a failed test."""
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join([self.said, *(path.read_text(encoding="utf-8") for path in logs)])

    def metrics(self) -> list[dict[str, float]]:
        """Rows of metrics.jsonl."""
        return read_metrics(self.workdir)

    def validation(self) -> list[dict[str, Any]]:
        """Rows of validation.jsonl, without their times."""
        lines = (self.workdir / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if k != "unix_seconds"} for row in rows]

    def saved(self) -> list[int]:
        """Whole checkpoints, ascending."""
        from rcodec_jax.checkpoint import whole_steps

        return whole_steps(self.workdir / "checkpoints")


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Rows of metrics.jsonl, without what depends on the clock."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    timed = ("second", "waiting", "flops", "mfu", "utilisation", "data_share")
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in rows]


def read_state(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by path."""
    import jax

    from rcodec_jax.checkpoint import Checkpoints

    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore_params(("params", "opt", "stats", "step"), step=step)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Starts runs, and reads what they leave.

    Attributes:
      recipe, pictures: of all runs.
    """

    recipe: Path
    pictures: Path
    steps: int = STEPS

    def launch(
        self, folder: Path, *arguments: str, processes: int = 2, devices: int = 8
    ) -> Launched:
        """Starts a run; `arguments` are further ones of `rcodec train`."""
        given = [str(self.recipe), "--data", str(self.pictures), *arguments]
        return Launched(folder, processes, devices, *given)

    def run(self, folder: Path, *arguments: str, processes: int = 2, devices: int = 8) -> Launched:
        """Starts a run and waits for its good end."""
        launched = self.launch(folder, *arguments, processes=processes, devices=devices)
        assert launched.wait() == 0, launched.told()
        return launched

    metrics = staticmethod(read_metrics)
    state = staticmethod(read_state)

    def copy(self, launched: Launched, step: int, folder: Path) -> Path:
        """The workdir of a run as it was just after a step."""
        folder.mkdir()
        for name in ("config.json", "manifest.jsonl", "metrics.jsonl"):
            shutil.copy(launched.workdir / name, folder / name)
        kept = Path("checkpoints", str(step))
        shutil.copytree(launched.workdir / kept, folder / kept)
        return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "pico.py").write_text(RECIPE)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        pixels = np.kron(rng.integers(0, 255, (12, 10, 3)), np.ones((8, 8, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / f"{n}.png")
    return Cluster(folder / "pico.py", folder / "pictures")


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """Two processes of four devices, from the start to the end."""
    return cluster.run(tmp_path_factory.mktemp("undisturbed"))
