"""What a run tells: JSON lines in the workdir, a line on the terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

import jax
import jax.numpy as jnp

from rcodec_jax.config.train import StageConfig
from rcodec_jax.errors import RcodecError

METRICS = "metrics.jsonl"


class Reporter:
    """Collects metrics on the device and fetches them on log steps only.

    Attributes:
      workdir: folder of the run.
      latest: the last figures logged, means since the line before.
    """

    def __init__(self, workdir: Path, last_step: int) -> None:
        self.workdir = workdir
        self.latest: dict[str, float] = {}
        self._last_step = last_step
        self._sums: dict[str, jax.Array] | None = None
        self._count = 0
        self._pixels = 0
        self._since = time.perf_counter()
        self._add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b))
        self._file: TextIO | None = None
        self._lead = jax.process_index() == 0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()

    def start(self, step: int, parameters: dict[str, int], pictures: int, devices: int) -> None:
        """Opens the log at a step; lines past it belong to work that was lost and are dropped."""
        if not self._lead:
            return
        path = self.workdir / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        count = sum(parameters.values())
        self.say(
            f"step {step} of {self._last_step}: {count / 1e6:.2f} M parameters, "
            f"{pictures} pictures, {devices} device(s)"
        )
        self._since = time.perf_counter()

    def add(self, step: int, metrics: dict[str, jax.Array], stage: StageConfig) -> None:
        """Adds one step's metrics without waiting for them."""
        self._sums = metrics if self._sums is None else self._add(self._sums, metrics)
        self._count += 1
        self._pixels += stage.batch_size * stage.crop_px**2

    def log(self, step: int) -> None:
        """Fetches the means since the last line and writes them.

        Raises:
          RcodecError: one of them is not finite.
        """
        if self._sums is None:
            return
        means = {k: float(v) / self._count for k, v in jax.device_get(self._sums).items()}
        elapsed = time.perf_counter() - self._since
        means["step_seconds"] = elapsed / self._count
        means["pixels_per_second"] = self._pixels / elapsed
        self._sums, self._count, self._pixels = None, 0, 0
        self._since = time.perf_counter()
        self.latest = means
        if self._file:
            rounded = {k: float(f"{v:.6g}") for k, v in means.items()}
            self._file.write(json.dumps({"step": step, **rounded}) + "\n")
            self._file.flush()
        shown = ("loss", "bpp", "bpp_z", "psnr", "lpips", "latent", "kl", "grad_norm")
        figures = "  ".join(f"{name} {means[name]:.4g}" for name in shown if name in means)
        self.say(f"step {step}/{self._last_step}  {figures}  {means['step_seconds']:.3f} s/step")
        if not all(math.isfinite(value) for value in means.values()):
            raise RcodecError(f"the loss is not finite within the steps up to {step}")

    def say(self, line: str) -> None:
        """Prints a line on standard error, from the first process only."""
        if self._lead:
            print(line, file=sys.stderr, flush=True)
