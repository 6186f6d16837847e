"""The differentiable quantiser: the integers and lengths of files, and honest gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.entropy import dither_indices, dither_values
from rcodec_jax.entropy.distributions.gaussian import GaussianTables, sigma_of_level
from rcodec_jax.entropy.distributions.rdoq import expected_quantiser, expected_tables, rdoq
from rcodec_jax.model.rounding import LARGEST, Trimmed, dither_of, tables_of

SHAPE = (12, 16, 32)
RDOQ_LAMBDA = 16.0


@pytest.fixture(scope="module")
def tables() -> GaussianTables:
    return GaussianTables.build()


@pytest.fixture(scope="module")
def quantiser(tables: GaussianTables) -> Trimmed:
    dither = jnp.asarray(dither_indices(*SHAPE)[None])
    return Trimmed(tables_of(tables, RDOQ_LAMBDA), dither, RDOQ_LAMBDA)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """v, sigma and level of the tables: deviations from far below a step to ten."""
    rng = np.random.default_rng(3)
    level = rng.integers(0, 50, SHAPE).astype(np.uint8)
    sigma = sigma_of_level(level)
    return rng.laplace(size=SHAPE) * sigma / np.sqrt(2), sigma, level


def test_integers_and_lengths_are_those_of_the_encoder(tables, quantiser, scene) -> None:
    v, sigma, level = scene
    dither = dither_indices(*SHAPE)
    g = dither_values(dither)
    j = np.floor(v + g + 0.5).astype(np.int64)
    bits = tables.bits(level, dither, j)
    j, bits = rdoq(j, v, sigma, bits, tables, level, dither, rdoq_lambda=RDOQ_LAMBDA)

    args = jnp.asarray(v[None], jnp.float32), jnp.asarray(sigma[None], jnp.float32)
    e = jax.jit(quantiser.error)(*args)
    found = np.asarray(e[0]) + v + g
    # An integer may differ where two cost the same to single precision.
    same = np.abs(found - j) < 1e-3
    assert same.mean() > 0.9995
    listed = same & (np.abs(j) <= LARGEST)
    lengths = np.asarray(jax.jit(quantiser.bits)(args[0], e, args[1])[0])
    np.testing.assert_allclose(lengths[listed], bits[listed], atol=2e-3)


def test_without_trimming_error_is_that_of_dither(tables, scene) -> None:
    v, sigma, _ = scene
    noise = jax.random.uniform(jax.random.key(1), (1, *SHAPE), minval=-0.5, maxval=0.5)
    plain = Trimmed(tables_of(tables, 1e6), dither_of(noise), 1e6)
    e = plain.error(jnp.asarray(v[None], jnp.float32), jnp.asarray(sigma[None], jnp.float32))
    wide = np.asarray(sigma > 2)[None]
    assert np.abs(np.asarray(e)[wide]).max() <= 0.5 + 1e-4
    assert np.asarray(e)[wide].var() == pytest.approx(1 / 12, rel=0.05)


def test_gradients_are_those_of_the_means_over_the_dither() -> None:
    """Against differences of the mean over all dithers, below, at and above where integers begin to
    be worth their bits."""
    points = 64
    gaussian = expected_tables(RDOQ_LAMBDA)
    quantiser = Trimmed(
        tables_of(gaussian, RDOQ_LAMBDA), jnp.arange(points)[:, None, None, None], RDOQ_LAMBDA
    )

    @jax.jit
    def means(v: jax.Array, log2_sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        spread = jnp.broadcast_to(v, (points, 1, 1, v.size))
        sigma = jnp.exp2(log2_sigma)
        e = quantiser.error(spread, sigma)
        return jnp.mean(spread + e, axis=(0, 1, 2)), jnp.mean(
            quantiser.bits(spread, e, sigma), axis=(0, 1, 2)
        )

    v = jnp.asarray([0.125, 0.375, 0.625, 0.875, 1.25, 2.0, 3.0, -0.625])
    slopes = [jax.jit(jax.grad(lambda v, s, w=w: jnp.sum(means(v, s)[w]))) for w in range(2)]
    step = 0.125
    for level in (18, 25, 30, 35, 40):
        log2_sigma = jnp.log2(jnp.full((points, 1, 1, v.size), sigma_of_level(level), jnp.float32))
        for which in range(2):
            slope = slopes[which](v, log2_sigma)
            ahead, behind = (means(v + sign * step, log2_sigma)[which] for sign in (1, -1))
            np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=0.02, atol=0.3)


def test_estimates_are_the_centroids_of_the_encoder(scene) -> None:
    v, sigma, level = scene
    tables, centroids = expected_quantiser(RDOQ_LAMBDA)
    dither = dither_indices(*SHAPE)
    quantiser = Trimmed(
        tables_of(tables, RDOQ_LAMBDA, centroids), jnp.asarray(dither[None]), RDOQ_LAMBDA
    )
    j = np.floor(v + dither_values(dither) + 0.5).astype(np.int64)
    j, _ = rdoq(
        j, v, sigma, tables.bits(level, dither, j), tables, level, dither,
        rdoq_lambda=RDOQ_LAMBDA, centroids=centroids,
    )  # fmt: skip
    args = jnp.asarray(v[None], jnp.float32), jnp.asarray(sigma[None], jnp.float32)
    e = jax.jit(quantiser.error)(*args)
    same = np.abs(np.asarray(e[0]) + v + dither_values(dither) - j) < 1e-3
    assert same.mean() > 0.9995
    found = np.asarray(jax.jit(quantiser.estimate)(args[0], e, args[1])[0])
    expected = centroids.estimate(level, j - dither_values(dither))
    np.testing.assert_allclose(found[same], expected[same], atol=1e-4)


def test_gradients_of_centroids_are_those_of_their_means_over_the_dither() -> None:
    points, step = 64, 0.125
    gaussian, centroids = expected_quantiser(RDOQ_LAMBDA)
    quantiser = Trimmed(
        tables_of(gaussian, RDOQ_LAMBDA, centroids),
        jnp.arange(points)[:, None, None, None],
        RDOQ_LAMBDA,
    )

    @jax.jit
    def mean(v: jax.Array, sigma: jax.Array) -> jax.Array:
        spread = jnp.broadcast_to(v, (points, 1, 1, v.size))
        e = quantiser.error(spread, sigma)
        return jnp.mean(quantiser.estimate(spread, e, sigma), axis=(0, 1, 2))

    v = jnp.asarray([0.125, 0.375, 0.625, 0.875, 1.25, 2.0, 3.0, -0.625])
    slope = jax.jit(jax.grad(lambda v, sigma: jnp.sum(mean(v, sigma))))
    for level in (18, 25, 30, 35, 40):
        sigma = jnp.full((points, 1, 1, v.size), sigma_of_level(level), jnp.float32)
        ahead, behind = (mean(v + sign * step, sigma) for sign in (1, -1))
        expected = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(slope(v, sigma), expected, rtol=0.02, atol=0.02)


def test_length_goes_linearly_in_log2_sigma_from_table_to_table(quantiser) -> None:
    level = jnp.linspace(20.0, 45.0, quantiser.dither.size).reshape(quantiser.dither.shape)
    log2_sigma = jnp.log2(0.01) + level * jnp.log2(6400.0) / 63
    v = 2 * jnp.exp2(log2_sigma)
    e = jax.jit(quantiser.error)(v, jnp.exp2(log2_sigma))

    @jax.jit
    def total(log2_sigma: jax.Array) -> jax.Array:
        return jnp.sum(quantiser.bits(v, e, jnp.exp2(log2_sigma)))

    step = 1e-3
    measured = (total(log2_sigma + step) - total(log2_sigma - step)) / (2 * step)
    assert jnp.sum(jax.jit(jax.grad(total))(log2_sigma)) == pytest.approx(float(measured), rel=0.02)


def test_expected_tables_are_a_fixed_point_that_costs_less_than_theory() -> None:
    """On the source that they are made for, with the integers that they make worth their bits."""
    expected, theory = expected_tables(RDOQ_LAMBDA), GaussianTables.build()
    rng = np.random.default_rng(5)
    for level, share in ((12, 0.1), (18, 0.1), (22, 0.5), (28, 1.0), (32, 1.0)):
        sigma = float(sigma_of_level(level))
        v = rng.laplace(size=50_000) * sigma / np.sqrt(2)
        dither = rng.integers(0, 64, v.size).astype(np.uint8)
        index = np.full(v.size, level, np.uint8)
        cost = []
        for tables in (expected, theory):
            j = np.floor(v + dither_values(dither) + 0.5).astype(np.int64)
            bits = tables.bits(index, dither, j)
            _, bits = rdoq(
                j, v, np.full(v.size, sigma), bits, tables, index, dither, rdoq_lambda=RDOQ_LAMBDA
            )
            cost.append(bits.mean())
        assert cost[0] < share * cost[1]
