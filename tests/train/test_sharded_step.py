"""A step whose parameters really are split computes what it does on one device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from rcodec_jax import scale
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig
from rcodec_jax.levels import CELL_PX, MAX_LEVELS
from rcodec_jax.train.step.build import Setup

# Wide enough for kernels above the size from which they are split; attention, group
# normalisation and an added timestep as in Stable Diffusion.
MODEL = ModelConfig(
    latent_channels=4,
    autoencoder=AutoencoderConfig(channels=(8,), patch=8),
    unet=UNetConfig(
        channels=(64,), layers=1, heads=(2,), middle_heads=2, context_features=64,
        context_tokens=8, time_features=64, norm="group", groups=8, scale_shift=False,
        prediction="v", prior=False,
    ),
    hyper=HyperConfig(hyper_channels=4, analysis=8, synthesis=(4, 4, 4), classes=4),
)  # fmt: skip
STAGE = StageConfig(kind="codec", batch_size=8, crop_px=64, latents=True, warmup=1)


def _batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cells = STAGE.crop_px // CELL_PX
    nodes = np.sort(rng.integers(128, 768, (8, MAX_LEVELS)), axis=1).astype(np.int32)
    return {
        "latent": rng.normal(size=(8, cells, cells, 4)).astype(np.float16),
        "level_map": rng.integers(0, MAX_LEVELS, (8, cells, cells)).astype(np.uint8),
        "nodes": nodes,
    }


def _two_steps(optimizer: str, sizes: tuple[int, int, int]) -> tuple[Any, list[float], Any]:
    train = TrainConfig(stages=(STAGE,), optimizer=optimizer)  # type: ignore[arg-type]
    setup = Setup.of(Config(model=MODEL, train=train), scale.make_mesh(*sizes))
    state = setup.initial_state()
    step = setup.step(STAGE, 0)
    batch = scale.global_batch(_batch(), setup.mesh)
    losses = []
    for _ in range(2):
        state, metrics = step(state, batch)
        losses += [float(metrics["loss"]), float(metrics["grad_norm"])]
    return setup, losses, jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {name: _two_steps(name, (1, 1, 1)) for name in ("adam", "adafactor")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "sizes"),
    [("adam", (2, 4, 1)), ("adam", (2, 2, 2)), ("adafactor", (1, 4, 2))],
)
def test_split_parameters_change_nothing(alone, optimizer, sizes) -> None:
    setup, losses, params = _two_steps(optimizer, sizes)
    split = [
        sharding.spec
        for sharding in jax.tree.leaves(setup.shardings.params)
        if not sharding.is_fully_replicated
    ]
    axes = {axis for spec in split for axis in spec if axis}
    assert axes == {axis for axis in ("fsdp", "tensor") if setup.mesh.shape[axis] > 1}
    _, expected, before = alone[optimizer]
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    # By array, not by element: Adam's first steps are as long for a gradient that is all rounding
    # as for any other, so that a single element may go either way.
    start = jax.device_get(setup.initial_state().params)
    for one, other, first in zip(*map(jax.tree.leaves, (params, before, start)), strict=True):
        assert np.linalg.norm(one - other) <= 0.02 * np.linalg.norm(other - first)
