"""What a run would be: sums that must hold, with no device touched."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

from rcodec_jax import scale
from rcodec_jax.config import load_config, to_json
from rcodec_jax.config.model import UNetConfig
from rcodec_jax.config.presets import SD21_UNET
from rcodec_jax.config.train import Config, LossConfig, MeshConfig, StageConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.trees import flatten, unflatten
from rcodec_jax.ops.platform import traced_for
from rcodec_jax.train.plan.describe import describe, stage_batch
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.losses import codec_loss, draw_noise

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def tiny() -> Config:
    return load_config(CONFIGS / "tiny.py", Config)


@pytest.fixture(scope="module")
def nano() -> Config:
    """The smallest recipe, quicker to trace."""
    return load_config(CONFIGS / "nano.py", Config)


def _with(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def test_bytes_of_a_device(tiny: Config) -> None:
    alone = describe(tiny, MeshConfig(1), flops=False)
    shapes = jax.eval_shape(Networks(tiny.model).init, jax.random.key(0))
    assert alone.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))
    for part in alone.parts:
        assert part.parameter_bytes == part.average_bytes == 4 * part.parameters
        assert part.optimizer_bytes == 8 * part.parameters  # two moments
    assert alone.state_bytes == 16 * alone.parameters + alone.other_bytes
    assert sum(tensor.device_bytes for tensor in alone.tensors) == 4 * alone.parameters
    # copies change nothing; shards hold their part of all but small arrays
    assert describe(tiny, MeshConfig(512), flops=False).state_bytes == alone.state_bytes
    split = describe(tiny, MeshConfig(2, 4), flops=False)
    assert alone.state_bytes / 4 < split.state_bytes < alone.state_bytes / 4 * 1.2
    further = describe(tiny, MeshConfig(2, 4, 2), flops=False)
    assert further.state_bytes < split.state_bytes
    splits = {tensor.path: tensor.split for tensor in further.tensors}
    assert splits["unet/mid_block_resnets_0/conv1/conv/kernel"] == (None, None, "fsdp", "tensor")


def test_what_is_not_kept_takes_nothing(tiny: Config) -> None:
    light = _with(tiny, ema_decay=None, optimizer="adafactor")
    described = describe(light, MeshConfig(1), flops=False)
    assert sum(part.average_bytes for part in described.parts) == 0
    assert sum(part.optimizer_bytes for part in described.parts) < 0.7 * 4 * described.parameters


def test_an_axis_that_takes_what_is_left_counts_as_one(tiny: Config) -> None:
    assert describe(_with(tiny, mesh=MeshConfig(2, -1)), flops=False).mesh == {
        "data": 2,
        "fsdp": 1,
        "tensor": 1,
    }
    with pytest.raises(UsageError, match=r"conv1.*tensor=77"):
        describe(tiny, MeshConfig(1, 1, 77), flops=False)


def test_operations_of_the_stages(nano: Config) -> None:
    codec = StageConfig(kind="codec", batch_size=2, crop_px=64, loss=LossConfig(lpips=1.0))
    stages = (
        codec,
        dataclasses.replace(codec, batch_size=4),
        dataclasses.replace(codec, latents=True),
        dataclasses.replace(codec, kind="joint"),
    )
    once, twice, cached, joint = describe(_with(nano, stages=stages)).stages
    assert twice.flops == pytest.approx(2 * once.flops, rel=1e-3)
    assert cached.flops < once.flops < joint.flops
    assert (once.input, cached.input, once.without) == ("pixels", "latents", ("lpips",))
    # frozen, the encoder runs once; moved, its gradient is twice that again
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    networks = Networks(nano.model)
    shapes = jax.eval_shape(networks.init, jax.random.key(0))
    encoder = scale.count_flops(networks.encode, shapes, image).total
    assert once.flops - cached.flops == encoder


def test_no_device_is_touched(tools) -> None:
    recipe = to_json(tools.config("autoencoder"))
    code = (
        "from rcodec_jax.config import from_json; from rcodec_jax.config.train import Config;"
        "from rcodec_jax.train.plan.describe import describe;"
        "from jax._src import xla_bridge;"
        f"described = describe(from_json(Config, {recipe!r}));"
        "print(described.parameters, described.stages[0].flops)"
    )
    environ = {**os.environ, "JAX_PLATFORMS": "no_such_platform"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert all(int(number) > 0 for number in done.stdout.split())


def _widened(jaxpr: Any, shapes: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Shapes of bfloat16 arrays that are cast to float32 anywhere in a program."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "convert_element_type":
            value = equation.invars[0].aval
            if value.dtype == jnp.bfloat16 and equation.params["new_dtype"] == jnp.float32:
                found.append(value.shape)
        for inner in jaxprs_in_params(equation.params):
            found += _widened(inner, shapes)
    return [shape for shape in found if shape in shapes]


SD = dataclasses.replace(SD21_UNET, channels=(320, 640), layers=1, heads=(5, 0), middle_heads=10)


@pytest.mark.parametrize("unet", [UNetConfig(), SD])
def test_parameters_that_travel_in_bfloat16_are_used_in_it(tiny: Config, unet: UNetConfig) -> None:
    model = dataclasses.replace(tiny.model, unet=unet)
    stage = StageConfig(kind="joint", batch_size=1, crop_px=64)
    config = dataclasses.replace(_with(tiny, dtype="bfloat16", stages=(stage,)), model=model)
    with traced_for("any"):
        setup = Setup.of(config, scale.abstract_mesh(1, 4))
        whole = jax.eval_shape(setup.gather, flatten(setup.shapes.params))
        cast = [leaf for leaf in whole.values() if leaf.dtype == jnp.bfloat16]
        assert sum(leaf.size for leaf in cast) > 0.7 * sum(leaf.size for leaf in whole.values())

        def loss(params: Any, stats: Any, batch: Any) -> jax.Array:
            noise = draw_noise(stage, jax.random.key(0), batch["level_map"], model)
            args = (params, stats, batch | noise, stage.loss, None)
            return codec_loss(setup.networks, *args, joint=True)[0]

        batch = stage_batch(config, stage)
        jaxpr = jax.make_jaxpr(loss)(unflatten(whole), setup.shapes.stats, batch).jaxpr
    assert not _widened(jaxpr, {leaf.shape for leaf in cast})
