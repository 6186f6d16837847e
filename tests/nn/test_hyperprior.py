"""The entropy model's float networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.levels import NODE_COUNT
from rcodec_jax.nn.hyperprior import (
    HyperAnalysis,
    HyperPrior,
    HyperSynthesis,
    NodeRows,
    film,
    leaky_relu,
)
from rcodec_jax.ops.spatial import occupancy_pyramid


@pytest.fixture(scope="module")
def levels():
    level_map = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 8, 12)))
    nodes = jnp.asarray([[10, 300, 800], [0, 500, 1023]])
    return level_map, nodes, occupancy_pyramid(level_map, 3, 3)


def test_shapes_and_ranges(levels) -> None:
    level_map, nodes, shares = levels
    analysis, synthesis = HyperAnalysis(6, 5), HyperSynthesis((4, 4, 8), 3)

    def run(key):
        y = jnp.ones((2, 8, 12, 3))
        z = analysis.init_with_output(key, y, nodes, level_map, shares)[0]
        return z, synthesis.init_with_output(key, z, nodes, shares)

    z, ((mean, log2_sigma), variables) = jax.eval_shape(run, jax.random.key(0))
    assert z.shape == (2, 2, 3, 5)
    assert mean.shape == log2_sigma.shape == (2, 8, 12, 3)
    # what freezing needs to know: every activation that is stored in 16 bits
    assert set(variables["ranges"]) == {
        "conv_0_out", "film_0_out", "conv_1_out", "film_1_out", "conv_2_out", "film_2_out",
        "conv_3_out",
    }  # fmt: skip


def test_rows_start_neutral_and_are_smooth() -> None:
    rows = NodeRows(3)
    nodes = jnp.arange(NODE_COUNT)[None]
    params = jax.jit(rows.init)(jax.random.key(0), nodes)
    apply = jax.jit(rows.apply)
    start = np.asarray(apply(params, nodes))[0]
    np.testing.assert_array_equal(start[:, :3], 1.0)
    np.testing.assert_array_equal(start[:, 3:], 0.0)
    rng = np.random.default_rng(0)
    rough = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.3, p.shape), p.dtype), params)
    table = np.asarray(apply(rough, nodes))[0]
    assert np.abs(np.diff(table, axis=0)).max() < 0.05 * np.ptp(table)


def test_film_and_rectifier_by_hand(levels) -> None:
    level_map, _, shares = levels
    rng = np.random.default_rng(1)
    x, rows = rng.normal(size=(2, 8, 12, 4)), rng.normal(size=(2, 3, 8))
    found = film(jnp.asarray(x, jnp.float32), jnp.asarray(rows, jnp.float32), shares[0])
    chosen = rows[np.arange(2)[:, None, None], np.asarray(level_map)]
    np.testing.assert_allclose(np.asarray(found), x * chosen[..., :4] + chosen[..., 4:], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(leaky_relu(jnp.asarray([-8.0, 0, 3]))), [-1, 0, 3])


def test_prior_of_z_is_a_distribution_by_class() -> None:
    prior = HyperPrior(2, classes=4)
    k = jnp.broadcast_to(jnp.arange(-400, 401.0)[None, :, None, None], (1, 801, 1, 2))
    params = {"params": {
        "mean": jnp.asarray(np.random.default_rng(0).normal(0, 3, (4, 2)), jnp.float32),
        "log_scale": jnp.asarray(np.random.default_rng(1).normal(0, 1, (4, 2)), jnp.float32),
    }}  # fmt: skip
    costs = []
    for node in (0, 255, 256, 1023):
        bits = prior.apply(params, k, jnp.full((1, 801, 1), node), k)
        np.testing.assert_allclose(np.asarray(2.0**-bits).sum((0, 1, 2)), 1.0, atol=2e-3)
        costs.append(np.asarray(bits))
    np.testing.assert_array_equal(costs[0], costs[1])  # one class
    assert np.abs(costs[1] - costs[2]).max() > 0.1
