"""Estimates of the residual on the device: those of the entropy model's tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.diffusion.estimates import centroid, wiener_share
from rcodec_jax.diffusion.sampler import by_centroids, linear_estimate
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import Centroids, sigma_of_level


def table() -> Centroids:
    """Something of every level and column that no other has."""
    values = np.arange(64)[:, None] / 64 + np.arange(192) / 64
    return Centroids.rounded(np.minimum(values, 3.9))


def test_centroids_are_those_of_the_integer_tables() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(0, 64, (1, 20, 30, 4))
    u = (2 * rng.integers(-400, 400, level.shape) + 1) / 128
    found = jax.jit(centroid)(
        jnp.asarray(table().values),
        jnp.asarray(u, jnp.float32),
        jnp.asarray(sigma_of_level(level), jnp.float32),
    )
    np.testing.assert_allclose(found, table().estimate(level, u), atol=1e-6)


def test_wiener_share_is_the_best_linear_estimate() -> None:
    rng = np.random.default_rng(1)
    for sigma in (0.1, 0.5, 2.0):
        v = rng.normal(size=100_000) * sigma
        u = v + rng.uniform(-0.5, 0.5, v.size)
        best = np.sum(u * v) / np.sum(u * u)
        assert abs(float(wiener_share(jnp.float32(sigma))) - best) < 0.01


def test_linear_centroids_give_the_linear_estimate() -> None:
    """Between levels of the table's sigma to the half of their distance."""
    rng = np.random.default_rng(2)
    nodes = node_table("scaled_linear")
    node = 400
    abar = jnp.full((1, 1), nodes.alpha_bar[node], jnp.float32)
    signal = np.sqrt(nodes.alpha_bar[node])
    level = rng.integers(20, 40, (1, 8, 8, 5))
    log2_sigma = np.log2(sigma_of_level(level)) - nodes.log2_scale[node]
    mean = rng.normal(size=level.shape)
    u = (2 * rng.integers(-150, 150, level.shape) + 1) / 128
    x = jnp.asarray(signal * mean + nodes.delta[node] * u, jnp.float32)
    prior = jnp.asarray(np.concatenate([mean, log2_sigma], axis=-1), jnp.float32)
    cells = jnp.zeros((1, 8, 8), jnp.int32)
    given, estimate = by_centroids(x, cells, abar, prior, jnp.asarray(Centroids.linear().values))
    wide = jnp.full((1, 1, 1, 1), signal, jnp.float32)
    expected, _ = linear_estimate(x, prior, wide, jnp.sqrt(1 - jnp.square(wide)))
    np.testing.assert_allclose(estimate, expected, atol=2e-3)
    np.testing.assert_allclose(given, signal * estimate, rtol=1e-5, atol=1e-6)
