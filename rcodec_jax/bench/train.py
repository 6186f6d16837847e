"""`rcodec bench train`: the real training step and loader against the machine's peaks."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax import scale
from rcodec_jax.bench.peak import Peaks, measure_peaks
from rcodec_jax.bench.pictures import synthetic
from rcodec_jax.codec.networks import count_parameters
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig
from rcodec_jax.data import make_dataset
from rcodec_jax.regions import MapSampler
from rcodec_jax.scale.flops import Flops
from rcodec_jax.train.setup import Setup

Progress = Callable[[int, int, str], None]

WARM_UP = 2
"""Steps that are not timed, besides compilation."""

PAPER_EIGHTH = ModelConfig(
    latent_channels=4,
    autoencoder=AutoencoderConfig(
        channels=(16, 32, 64, 64), layers=2, patch=1, norm="group", groups=8, attention=True,
        quant_conv=True,
    ),
    unet=UNetConfig(
        channels=(40, 80, 160, 160), layers=2, heads=(1, 2, 4, 0), middle_heads=4,
        context_features=128, context_tokens=77, time_features=160, norm="group", groups=8,
        scale_shift=False, prediction="v", prior=False,
    ),
    hyper=HyperConfig(hyper_channels=8, analysis=32, synthesis=(32, 20, 16)),
)  # fmt: skip
"""The paper-size model with an eighth of its channels."""

MODELS = {
    "tiny": Config(
        "tiny", train=TrainConfig(stages=(StageConfig(kind="joint", batch_size=8, crop_px=128),))
    ),
    "paper/8": Config(
        "paper/8",
        PAPER_EIGHTH,
        TrainConfig(stages=(StageConfig(kind="codec", batch_size=4, crop_px=256),)),
    ),
}
"""What is measured: a run of one stage by name."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One model's step.

    Attributes:
      model: its name.
      kind, batch_size, crop_px: of the stage.
      parameters: of the whole model.
      compile_s: time that compiling took (next to nothing if it was cached).
      seconds: of every timed step, until its results are there.
      step_s: their median.
      images_per_s: at that time.
      flops: of a step in matrix products and convolutions, without what remat computes again.
      flops_per_s: at that time.
      of_peak: what the FLOPs would take at the measured peaks of their kind, over the time of the
        fastest step: peaks are those of the fastest call too, so that what else the machine does
        counts in neither.
      data_share: share of the time that was spent waiting for the loader.
    """

    model: str
    kind: str
    batch_size: int
    crop_px: int
    parameters: int
    compile_s: float
    seconds: tuple[float, ...]
    step_s: float
    images_per_s: float
    flops: Flops
    flops_per_s: float
    of_peak: float
    data_share: float


def run(
    configs: dict[str, Config], *, steps: int, progress: Progress = lambda *_: None
) -> tuple[list[Row], Peaks]:
    """Measures the first stage of each run on the devices of its mesh.

    Args:
      configs: runs by name.
      steps: timed steps.
      progress: (done, total, what).

    Returns:
      A row for each, and the peaks of one device: the better of two measurements, before and after,
      so that other work on the machine does not pass for a low peak.
    """
    dtypes = {config.train.dtype for config in configs.values()}
    dtype = jnp.dtype(dtypes.pop() if len(dtypes) == 1 else "float32")
    total = len(configs) + 2
    progress(0, total, "peaks")
    before = measure_peaks(dtype)
    measured = []
    for done, (name, config) in enumerate(configs.items(), start=1):
        progress(done, total, name)
        measured.append((name, config, *_measure(config, steps)))
    progress(total - 1, total, "peaks")
    after = measure_peaks(dtype)
    peaks = Peaks(
        max(before.matmul_flops, after.matmul_flops), max(before.conv_flops, after.conv_flops)
    )
    progress(total, total, "done")
    return [_row(*found, peaks) for found in measured], peaks


def _measure(config: Config, steps: int) -> tuple[Setup, Flops, float, list[float], list[float]]:
    """Set-up, FLOPs of a step, compile time, and of each timed step its time and its waiting."""
    stage = config.train.stages[0]
    setup = Setup.of(config)
    batches = make_dataset(
        _Pictures(stage.crop_px),
        crop_px=stage.crop_px,
        batch_size=stage.batch_size,
        seed=0,
        sample_maps=MapSampler(stage.node_range or config.model.node_range),
    )
    batch = scale.global_batch(next(batches), setup.mesh)
    flops = setup.step_flops(stage, batch)
    step, compile_s = setup.compiled_step(stage, 0, None, batch)
    state = setup.initial_state()
    seconds, waits = [], []
    for index in range(WARM_UP + steps):
        began = time.perf_counter()
        host_batch = next(batches)
        waited = time.perf_counter() - began
        state, metrics = step(state, scale.global_batch(host_batch, setup.mesh))
        jax.block_until_ready(metrics)
        if index >= WARM_UP:
            seconds.append(time.perf_counter() - began)
            waits.append(waited)
    jax.block_until_ready(state)
    return setup, flops, compile_s, seconds, waits


def _row(
    name: str,
    config: Config,
    setup: Setup,
    flops: Flops,
    compile_s: float,
    seconds: list[float],
    waits: list[float],
    peaks: Peaks,
) -> Row:
    stage, devices = config.train.stages[0], setup.mesh.devices.size
    step_s = statistics.median(seconds)
    least = flops.matmul / peaks.matmul_flops + flops.conv / peaks.conv_flops
    return Row(
        model=name,
        kind=stage.kind,
        batch_size=stage.batch_size,
        crop_px=stage.crop_px,
        parameters=sum(count_parameters(setup.shapes.params).values()),
        compile_s=compile_s,
        seconds=tuple(seconds),
        step_s=step_s,
        images_per_s=stage.batch_size / step_s,
        flops=flops,
        flops_per_s=flops.total / step_s,
        of_peak=least / devices / min(seconds),
        data_share=sum(waits) / sum(seconds),
    )


class _Pictures:
    """Pictures in memory, as a run's cache would hold them."""

    def __init__(self, crop_px: int, count: int = 4) -> None:
        side = 2 * crop_px
        self._pictures = [synthetic(side, side, seed=seed) for seed in range(count)]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        return self._pictures[index]
