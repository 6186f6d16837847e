"""What a run tells: JSON lines in the workdir, a line on the terminal, TensorBoard's events."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.config.train import StageConfig
from rcodec_jax.files import atomic_write, read_json_lines
from rcodec_jax.model.trained import RUN_METRICS
from rcodec_jax.train.loop.events import EventFile
from rcodec_jax.train.loop.measured import Measured, in_words

_WEIGHTS = ("rate", "mse", "l1", "coarse", "structure", "lattice", "lpips", "latent", "kl")
"""Of a stage's loss, as its line tells them."""


class Reporter:
    """Collects metrics on the device and fetches them on log steps only.

    Attributes:
      workdir: folder of the run.
      latest: the last figures logged, means since the line before.
      window: how many steps these are the means of.

    Args:
      workdir: folder of the run.
      last_step: how long the run is; None where time decides.
      events: write TensorBoard event files into the folder too.
      peak_flops: of all devices together, in FLOP/s, to report utilisation against.
    """

    def __init__(
        self,
        workdir: Path,
        last_step: int | None,
        *,
        events: bool = False,
        peak_flops: float | None = None,
    ) -> None:
        self.workdir = workdir
        self.latest: dict[str, float] = {}
        self.window = 0
        self._last_step = last_step
        self._sums: dict[str, jax.Array] | None = None
        self._count = 0
        self._pixels = 0
        self._waited = 0.0
        self._flops: int | None = None
        self._peak = peak_flops
        self._wants_events = events
        self._events: EventFile | None = None
        self._stage: int | None = None
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
        if self._events:
            self._events.close()

    def start(
        self, step: int, parameters: dict[str, int], data: dict[str, int], devices: int
    ) -> None:
        """Opens the log at a step; lines past it belong to work that was lost and are dropped.

        Args:
          step: finished steps.
          parameters: of each part of the model.
          data: number of "images" and of "latents" that are read.
          devices: of the mesh.
        """
        if not self._lead:
            return
        path = self.workdir / RUN_METRICS
        kept = [row for row in read_json_lines(path) if row.get("step", math.inf) <= step]
        atomic_write(path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        if self._wants_events:
            self._events = EventFile(self.workdir, step)
        count = sum(parameters.values())
        names = {"images": "pictures", "latents": "cached latents"}
        read = [f"{data[kind]} {name}" for kind, name in names.items() if data[kind]]
        of = "" if self._last_step is None else f" of {self._last_step}"
        self.say(
            f"step {step}{of}: {count / 1e6:.2f} M parameters, "
            f"{', '.join(read) or 'no data'}, {devices} device(s)"
        )
        self._since = time.perf_counter()

    def stage(self, index: int, stages: Sequence[StageConfig], first: int, end: int | None) -> None:
        """Tells that a stage begins, or goes on; the lines of the log are its own from here.

        Args:
          index: of the stage.
          stages: all of them.
          first: its first step.
          end: its last step; None where time decides.
        """
        self._stage, stage = index, stages[index]
        weights = {name: getattr(stage.loss, name) for name in _WEIGHTS}
        loss = ", ".join(f"{name} {value:g}" for name, value in weights.items() if value)
        until = "" if end is None else f", steps {first + 1} to {end}"
        self.say(f"stage {index + 1} of {len(stages)}, {stage.kind}: loss {loss}{until}")

    def compiled(self, step: int, seconds: float, flops: int | None) -> None:
        """Tells of a stage's program, compiled after `step` steps; the clock starts after it.

        Args:
          step: finished steps.
          seconds: that compilation took.
          flops: that a step takes on all devices together; None if that was not counted.
        """
        self._flops = flops
        self.latest, self.window = {}, 0  # of another stage
        figures: dict[str, float] = {"compile_seconds": seconds}
        if flops is not None:
            figures["step_flops"] = flops
        if self._events:
            self._events.add(step, figures)
        counted = "" if flops is None else f", {flops / 1e9:.4g} GFLOP a step"
        self.say(f"compiled in {seconds:.1f} s{counted}")
        self._since = time.perf_counter()

    def add(
        self,
        metrics: dict[str, jax.Array],
        stage: StageConfig,
        waited_s: float = 0.0,
        steps: int = 1,
    ) -> None:
        """Adds metrics, sums over `steps`, without waiting for them, and the time data took."""
        self._sums = metrics if self._sums is None else self._add(self._sums, metrics)
        self._count += steps
        self._pixels += steps * stage.batch_size * stage.crop_px**2
        self._waited += waited_s

    def log(self, step: int, left_s: float | None = None) -> None:
        """Fetches the means since the last line and writes them.

        Args:
          step: finished steps.
          left_s: seconds to the end of the run; None reckons them from the steps that are left.
        """
        if self._sums is None:
            return
        means = {k: float(v) / self._count for k, v in jax.device_get(self._sums).items()}
        self.window = self._count
        elapsed = time.perf_counter() - self._since
        means["step_seconds"] = elapsed / self._count
        means["pixels_per_second"] = self._pixels / elapsed
        means["data_share"] = self._waited / elapsed
        if self._flops is not None and self._peak is not None:
            means["mfu"] = self._flops / (means["step_seconds"] * self._peak)
        memory = peak_memory_bytes()
        if memory is not None:
            means["memory_gb"] = memory / 1e9
        self._sums, self._count, self._pixels, self._waited = None, 0, 0, 0.0
        self._since = time.perf_counter()
        self.latest = means
        if self._file:
            rounded = {k: float(f"{v:.6g}") for k, v in means.items()}
            of_stage = {} if self._stage is None else {"stage": self._stage}
            row = {"step": step, **of_stage, "unix_seconds": round(time.time(), 3), **rounded}
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._events:
            self._events.add(step, means)
        shown = ("loss", "bpp", "bpp_z", "psnr", "lpips", "latent", "kl", "grad_norm", "mfu")
        figures = "  ".join(f"{name} {means[name]:.4g}" for name in shown if name in means)
        of = "" if self._last_step is None else f"/{self._last_step}"
        if left_s is None and self._last_step is not None:
            left_s = (self._last_step - step) * means["step_seconds"]
        left = "" if left_s is None else f"  {in_hours(left_s)} left"
        self.say(f"step {step}{of}  {figures}  {means['step_seconds']:.3f} s/step{left}")

    def describe(self, step: int, configuration: str) -> None:
        """Tells TensorBoard the configuration, as JSON."""
        if self._events:
            block = "".join(f"    {line}\n" for line in configuration.splitlines())
            self._events.add_text(step, "configuration", block)

    def measured(self, step: int, measured: Measured, sheet: np.ndarray) -> None:
        """Tells of a measurement on what is held out; its time is none of the steps'."""
        if self._events:
            figures = {"validation/loss": measured.loss}
            for name, found in measured.by_map.items():
                figures |= {f"validation/{name}/{key}": value for key, value in found.items()}
            self._events.add(step, figures)
            self._events.add_picture(step, "validation", sheet)
        self.say(in_words(step, measured))
        self._since += measured.seconds

    def say(self, line: str) -> None:
        """Prints a line on standard error, from the first process only."""
        if self._lead:
            print(line, file=sys.stderr, flush=True)


def in_hours(seconds: float) -> str:
    """A time as 0:00:00, hours first; 0 of what is past."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def peak_memory_bytes() -> int | None:
    """Most memory in use at once on a device of this process; None where devices do not say."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
    return max(peaks, default=None)
