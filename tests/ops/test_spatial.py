"""Moves between resolutions, and the occupancy of levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcodec_jax.entropy import DepthToSpace
from rcodec_jax.ops.spatial import (
    depth_to_space,
    occupancy_pyramid,
    space_to_depth,
    upsample_nearest,
)


@pytest.mark.parametrize("block", [2, 4, 8])
def test_space_to_depth_is_undone(block: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3 * block, 2 * block, 5)), jnp.float32)
    y = space_to_depth(x, block)
    assert y.shape == (2, 3, 2, block * block * 5)
    np.testing.assert_array_equal(np.asarray(depth_to_space(y, block)), np.asarray(x))
    # channel = (dy block + dx) C + c
    assert float(y[1, 2, 1, (1 * block + 0) * 5 + 3]) == float(x[1, 2 * block + 1, block, 3])


def test_depth_to_space_is_that_of_the_integer_network() -> None:
    x = np.random.default_rng(1).integers(-99, 99, (3, 5, 8)).astype(np.float64)
    frozen = DepthToSpace(2)(x, None)
    np.testing.assert_array_equal(np.asarray(depth_to_space(jnp.asarray(x[None]), 2)[0]), frozen)


def test_nearest_repeats_cells() -> None:
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    expected = np.kron(x[0, :, :, 0], np.ones((3, 3)))
    found = np.asarray(upsample_nearest(jnp.asarray(x), 3))
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 16), st.integers(0, 999))
def test_occupancy_rows_sum_to_one_at_any_size(h: int, w: int, levels: int, seed: int) -> None:
    level_map = np.random.default_rng(seed).integers(0, levels, (1, h, w))
    pyramid = jax.jit(occupancy_pyramid, static_argnums=(1, 2))(level_map, levels, 4)
    for i, shares in enumerate(pyramid):
        side = 2**i
        assert shares.shape == (1, -(-h // side), -(-w // side), levels)
        np.testing.assert_allclose(np.asarray(shares).sum(-1), 1.0, atol=1e-6)
    # ceil sizes with the edge repeated at every halving: as if the map had been that large
    padded = level_map[0]
    for shares in pyramid[1:2]:
        padded = np.pad(padded, ((0, h % 2), (0, w % 2)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
        for level in range(levels):
            np.testing.assert_allclose(
                np.asarray(shares)[0, :, :, level], (blocks == level).mean((1, 3)), atol=1e-6
            )
