"""Level-wise conditioning: a constant map is a scalar timestep, at its cost."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.levels import MAX_LEVELS
from rcodec_jax.nn.blocks import ResnetBlock
from rcodec_jax.nn.conditioning import (
    LevelProjection,
    condition,
    timestep_embedding,
)
from rcodec_jax.nn.unet import UNet

SIZE = (6, 9)  # odd at the second resolution


def unet(**changes) -> UNet:
    """Two resolutions, channel norm and FiLM, as in the small models."""
    settings = {"out_channels": 3, "channels": (8, 16), "layers": 1, "heads": (),
                "middle_heads": 0, "context_features": 0, "context_tokens": 77,
                "time_features": 16, "norm": "channel", "groups": 1,
                "scale_shift": True}  # fmt: skip
    return UNet(**(settings | changes))


def sd_like() -> UNet:
    """Stable Diffusion's kind: group norm, added timesteps, cross-attention at the finer level."""
    return unet(
        norm="group", groups=4, scale_shift=False, heads=(2, 0), middle_heads=2,
        context_features=12, context_tokens=5,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["small", "sd"])
def network(request, filled):
    """Jitted function of x, levels_t and level_map."""
    module = {"small": unet, "sd": sd_like}[request.param]()
    x = jnp.zeros((1, *SIZE, 3))
    params = filled(module, x, jnp.zeros((1, 1)), jnp.zeros((1, *SIZE), jnp.int32))
    return jax.jit(functools.partial(module.apply, params))


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, *SIZE, 3)), jnp.float32)


def assert_close(a, b, tolerance: float = 1e-5) -> None:
    size = float(jnp.abs(b).max())
    assert float(jnp.abs(a - b).max()) <= tolerance * size


def test_a_constant_map_is_a_scalar_timestep(network, x) -> None:
    """Whatever stands on the unused levels, and with another t for each picture of the batch."""
    rng = np.random.default_rng(2)
    t = np.array([[123.4], [777.0]])
    scalar = network(x, jnp.asarray(t, jnp.float32), jnp.zeros((2, *SIZE), jnp.int32))
    levels_t = rng.uniform(0, 999, (2, MAX_LEVELS))
    levels_t[:, 5] = t[:, 0]
    mapped = network(x, jnp.asarray(levels_t, jnp.float32), jnp.full((2, *SIZE), 5, jnp.int32))
    assert scalar.shape == x.shape and np.isfinite(np.asarray(scalar)).all()
    assert_close(mapped, scalar)
    other = network(x, jnp.asarray(t + 50, jnp.float32), jnp.zeros((2, *SIZE), jnp.int32))
    assert float(jnp.abs(other - scalar).max()) > 1e-3  # the timestep does matter


def test_names_of_levels_do_not_matter(network, x) -> None:
    rng = np.random.default_rng(3)
    levels_t = rng.uniform(0, 999, (2, MAX_LEVELS)).astype(np.float32)
    level_map = rng.choice([1, 4, 9], (2, *SIZE))
    first = network(x, jnp.asarray(levels_t), jnp.asarray(level_map))
    # the unused levels in another order
    unused = np.setdiff1d(np.arange(MAX_LEVELS), [1, 4, 9])
    shuffled = levels_t.copy()
    shuffled[:, unused] = levels_t[:, rng.permutation(unused)]
    assert_close(network(x, jnp.asarray(shuffled), jnp.asarray(level_map)), first)
    # all levels renamed, in map and list alike
    order = rng.permutation(MAX_LEVELS)
    renamed = np.empty_like(levels_t)
    renamed[:, order] = levels_t
    assert_close(network(x, jnp.asarray(renamed), jnp.asarray(order[level_map])), first)


def test_a_map_acts_where_it_is(filled) -> None:
    """A network of one resolution without attention has a bounded reach."""
    module = unet(channels=(8,))
    z = jnp.zeros((1, 4, 30, 3))
    params = filled(module, z, jnp.zeros((1, 2)), jnp.zeros((1, 4, 30), jnp.int32))
    run = jax.jit(functools.partial(module.apply, params))
    level_map = np.zeros((1, 4, 30), np.int32)
    levels_t = jnp.asarray([[10.0, 900.0]])
    z = z + 0.5
    uniform = run(z, levels_t, jnp.asarray(level_map))
    level_map[:, :, 20:] = 1
    mixed = run(z, levels_t, jnp.asarray(level_map))
    difference = np.abs(np.asarray(mixed - uniform)).max(axis=(0, 1, 3))
    # conv2 of each of 5 blocks and conv_out lie after the conditioning: at most 13 columns
    assert np.all(difference[:7] == 0) and difference[25] > 1e-3


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_block_adds_what_a_scalar_timestep_would(filled, scale_shift: bool) -> None:
    """Against the formula of a scalar-t block, parameters taken apart by hand."""
    block = ResnetBlock(4, "channel", scale_shift=scale_shift)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 5, 5, 4)), jnp.float32)
    rows = jnp.asarray(rng.normal(size=(1, 1, 6)), jnp.float32)
    cond = condition(rows, jnp.zeros((1, 5, 5), jnp.int32), 1)
    params = filled(block, x, cond)
    linear = params["params"]["time_emb_proj"]["linear"]
    row = rows[:, 0] @ linear["kernel"] + linear["bias"][None]
    bare = ResnetBlock(4, "channel")

    captured = {}

    def catch(next_call, args, kwargs, context):
        out = next_call(*args, **kwargs)
        if context.module.name in ("conv1", "norm2") and context.method_name == "__call__":
            row_map = row[:, None, None]
            if context.module.name == "conv1" and not scale_shift:
                out = out + row_map
            if context.module.name == "norm2" and scale_shift:
                scale, shift = jnp.split(row_map, 2, axis=-1)
                out = out * (1 + scale) + shift
            captured[context.module.name] = True
        return out

    without = {"params": {k: v for k, v in params["params"].items() if k != "time_emb_proj"}}
    with nn.intercept_methods(catch):
        expected = bare.apply(without, x)
    assert captured
    assert_close(block.apply(params, x, cond), expected)


def test_levels_are_mixed_after_the_projection() -> None:
    """A coarse cell over two levels gets the mean of their projections."""
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(1, 2, 6)), jnp.float32)
    level_map = jnp.asarray([[[0, 1], [1, 1]]])
    cond = condition(rows, level_map, 2)
    projection = LevelProjection(3)
    params = projection.init(jax.random.key(0), cond, 1)
    linear = params["params"]["linear"]
    each = rows[0] @ linear["kernel"] + linear["bias"][None]
    np.testing.assert_allclose(
        np.asarray(projection.apply(params, cond, 1))[0, 0, 0],
        np.asarray(0.25 * each[0] + 0.75 * each[1]),
        rtol=1e-5,
    )
    fine = projection.apply(params, cond, 0)
    np.testing.assert_allclose(np.asarray(fine)[0, 0, 1], np.asarray(each[1]), rtol=1e-5)


def test_embedding_is_that_of_stable_diffusion() -> None:
    t = np.array([[0.0, 1.0, 999.0, 12.5]])
    found = np.asarray(timestep_embedding(jnp.asarray(t, jnp.float32), 10))
    assert found.shape == (1, 4, 10)
    for n in range(5):  # flip_sin_to_cos, no frequency shift
        angle = t * math.exp(-math.log(10000) * n / 5)
        np.testing.assert_allclose(found[..., n], np.cos(angle), atol=1e-4)
        np.testing.assert_allclose(found[..., 5 + n], np.sin(angle), atol=1e-4)
