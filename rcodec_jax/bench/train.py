"""`rcodec bench train`: the real training step against the machine's peaks."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax import scale
from rcodec_jax.bench.peak import PeakMeter, Peaks
from rcodec_jax.bench.pictures import synthetic
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig
from rcodec_jax.data import make_dataset
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import count_parameters
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions import MapSampler
from rcodec_jax.scale.flops import Flops
from rcodec_jax.train.step.build import Setup

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
        "tiny", train=TrainConfig(stages=(StageConfig(kind="joint", batch_size=16, crop_px=128),))
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
      peaks: of one device while the steps ran, by the median of calls between them.
      of_peak: what the FLOPs would take at those peaks, over the median step.
      best: peaks by the fastest of these calls.
      of_best: what the FLOPs would take at those, over the fastest step.
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
    peaks: Peaks
    of_peak: float
    best: Peaks
    of_best: float


def run(configs: dict[str, Config], *, steps: int, progress: Progress = no_progress) -> list[Row]:
    """Measures the first stage of each run on the devices of its mesh.

    Args:
      configs: runs by name.
      steps: timed steps.
      progress: (done, total, what).
    """
    rows = []
    for done, (name, config) in enumerate(configs.items()):
        progress(done, len(configs), name)
        rows.append(_measure(name, config, steps))
    progress(len(configs), len(configs), "done")
    return rows


def _measure(name: str, config: Config, steps: int) -> Row:
    """Steps and calls at the peak in turns: what slows the machine slows both."""
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
    meter = PeakMeter(jnp.dtype(config.train.dtype), compiler_options=compiler_options())
    seconds = []
    for index in range(WARM_UP + steps):
        batch = scale.global_batch(next(batches), setup.mesh)
        began = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        if index >= WARM_UP:
            seconds.append(time.perf_counter() - began)
            meter.sample()
    step_s, devices = statistics.median(seconds), setup.mesh.devices.size

    def least(peaks: Peaks) -> float:
        """Seconds that the FLOPs take at these peaks."""
        return (flops.matmul / peaks.matmul_flops + flops.conv / peaks.conv_flops) / devices

    peaks, best = meter.median(), meter.best()
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
        peaks=peaks,
        of_peak=least(peaks) / step_s,
        best=best,
        of_best=least(best) / min(seconds),
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
