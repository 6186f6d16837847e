"""1, 2, 4 and 8 devices: bitwise the same batch, the same losses, each other's checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from rcodec_jax import scale
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, MeshConfig
from rcodec_jax.train import run
from rcodec_jax.train.input.batches import open_sources, stage_batches, stage_mixture
from rcodec_jax.train.step.build import Setup

MESHES = (
    MeshConfig(data=1),
    MeshConfig(data=2),
    MeshConfig(data=1, fsdp=2, tensor=2),
    MeshConfig(data=2, fsdp=2, tensor=2),
)
"""1, 2, 4 and 8 devices."""

# Kernels of more elements than those that are not worth splitting.
WIDE = ModelConfig(
    latent_channels=4,
    autoencoder=AutoencoderConfig(channels=(64,), patch=8),
    unet=UNetConfig(channels=(64,), time_features=8),
    hyper=HyperConfig(hyper_channels=4, analysis=8, synthesis=(4, 4, 4), classes=4),
)


def _on(config: Config, mesh: MeshConfig, steps: int | None = None) -> Config:
    train = dataclasses.replace(config.train, mesh=mesh, steps=steps)
    return dataclasses.replace(config, train=train)


@pytest.fixture
def recipe(tools):
    """A run of as many steps as there are meshes, eight rows a batch."""

    def made(kind: str) -> Config:
        config = tools.config(kind, steps=len(MESHES))
        stage = dataclasses.replace(config.train.stages[0], batch_size=8)
        train = dataclasses.replace(config.train, stages=(stage,), keep_latest=9)
        return dataclasses.replace(config, model=WIDE, train=train)

    return made


def test_the_batch_is_bitwise_the_same(recipe, pictures) -> None:
    config = recipe("joint")
    mixture = stage_mixture(open_sources(config, pictures), config.train.stages[0])
    host = next(stage_batches(config, 0, mixture, scale.make_mesh()))
    for axes in MESHES:
        mesh = scale.make_mesh(axes.data, axes.fsdp, axes.tensor)
        batch = scale.global_batch(next(stage_batches(config, 0, mixture, mesh)), mesh)
        for name, value in host.items():
            assert len(batch[name].addressable_shards) == mesh.devices.size
            np.testing.assert_array_equal(jax.device_get(batch[name]), value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["autoencoder", "joint"])
def test_every_step_on_other_devices_is_the_run_on_one(
    recipe, pictures, tools, tmp_path: Path, kind: str
) -> None:
    """A run that is stopped after each step and goes on with its checkpoint on the next mesh."""
    config = recipe(kind)
    assert run(_on(config, MESHES[0]), data=pictures, workdir=tmp_path / "one") == len(MESHES)
    for done, mesh in enumerate(MESHES):
        steps = run(_on(config, mesh, done + 1), data=pictures, workdir=tmp_path / "many")
        assert steps == done + 1
    one, many = tools.metrics(tmp_path / "one"), tools.metrics(tmp_path / "many")
    assert [row["step"] for row in many] == [row["step"] for row in one]
    figures = {"loss", "grad_norm", "psnr", "bpp"} & set(one[0])
    for row, other in zip(many, one, strict=True):
        for name in figures:
            assert row[name] == pytest.approx(other[name], rel=2e-4), (row["step"], name)
    states = [tools.state(config, tmp_path / name) for name in ("many", "one")]
    for name, value in states[1].items():
        largest = np.abs(value).max(initial=1e-3)
        np.testing.assert_allclose(states[0][name], value, rtol=0, atol=2e-3 * largest)


def test_parameters_really_are_split(recipe) -> None:
    """Or the runs above would prove nothing of `fsdp` and `tensor`."""
    setup = Setup.of(_on(recipe("joint"), MESHES[-1]))
    specs = [sharding.spec for sharding in jax.tree.leaves(setup.shardings.params)]
    assert {axis for spec in specs for axis in spec if axis} == {"fsdp", "tensor"}
