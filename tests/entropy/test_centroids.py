"""What integers stand for: means of what an encoder rounds to them, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.entropy import Centroids, dither_values, sigma_of_level
from rcodec_jax.entropy.distributions.centroids import CENTROIDS, WIDE, place
from rcodec_jax.entropy.distributions.fitting import Sums, fit_centroids
from rcodec_jax.entropy.distributions.gaussian import GaussianTables
from rcodec_jax.entropy.distributions.rdoq import (
    RDOQ_LAMBDA,
    expected_quantiser,
    expected_tables,
    rdoq,
)
from rcodec_jax.errors import BundleError


def coded(
    level: int, tables: GaussianTables, centroids: Centroids | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """v, u = j - g and bits of Laplacian values at a level of sigma."""
    rng = np.random.default_rng(level)
    sigma = float(sigma_of_level(level))
    v = rng.laplace(size=40_000) * sigma / np.sqrt(2)
    dither = rng.integers(0, 64, v.size).astype(np.uint8)
    index, g = np.full(v.size, level, np.uint8), dither_values(dither)
    j = np.floor(v + g + 0.5).astype(np.int64)
    bits = tables.bits(index, dither, j)
    j, bits = rdoq(
        j, v, np.full(v.size, sigma), bits, tables, index, dither,
        rdoq_lambda=RDOQ_LAMBDA, centroids=centroids,
    )  # fmt: skip
    return v, j - g, bits


@pytest.mark.parametrize("level", [18, 21, 24, 28, 32])
def test_they_buy_more_than_linear_estimates(level: int) -> None:
    """Bits and what the squared error is worth, of an encoder and its decoder that both know."""
    tables, centroids = expected_quantiser(RDOQ_LAMBDA)
    v, u, bits = coded(level, tables, centroids)
    estimate = centroids.estimate(np.full(v.size, level), u)
    cost = bits.mean() + RDOQ_LAMBDA * np.square(estimate - v).mean()
    v, u, bits = coded(level, expected_tables(RDOQ_LAMBDA), None)
    share = sigma_of_level(level) ** 2 / (sigma_of_level(level) ** 2 + 1 / 12)
    linear = bits.mean() + RDOQ_LAMBDA * np.square(share * u - v).mean()
    assert cost < {18: 0.93, 21: 0.85, 24: 0.85, 28: 0.96, 32: 0.99}[level] * linear


def test_they_are_the_means_of_what_is_coded() -> None:
    tables, centroids = expected_quantiser(RDOQ_LAMBDA)
    for level in (24, 28, 32, 36):
        v, u, _ = coded(level, tables, centroids)
        estimate = centroids.estimate(np.full(v.size, level), u)
        for least, most in ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.5)):
            within = (np.abs(u) > least) & (np.abs(u) < most)
            error = (np.sign(u) * (v - estimate))[within]
            assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size) + 0.02


def test_wide_spreads_have_linear_ones() -> None:
    _, centroids = expected_quantiser(RDOQ_LAMBDA)
    wide = sigma_of_level(np.arange(64)) >= WIDE
    np.testing.assert_array_equal(centroids.table[wide], Centroids.linear().table[wide])


def test_they_are_odd_and_go_on_beyond_the_table() -> None:
    _, centroids = expected_quantiser(RDOQ_LAMBDA)
    n = np.arange(-1001, 1002, 2)
    for level in (0, 20, 30, 63):
        fixed = centroids.fixed(np.full(n.size, level), n)
        np.testing.assert_array_equal(fixed, -fixed[::-1])
        beyond = fixed[n > 2 * CENTROIDS]
        np.testing.assert_array_equal(np.diff(beyond), 2 << (13 - 7))
        np.testing.assert_array_equal(
            centroids.estimate(np.full(n.size, level), n / 128), fixed / 2**13
        )


def test_every_dither_has_a_column_of_its_own() -> None:
    g = dither_values(np.arange(64, dtype=np.uint8))
    for j in range(3):
        columns = place(j - g)
        assert np.unique(columns).size == (32 if j == 0 else 64)
        np.testing.assert_allclose((columns + 0.5) / 64, np.abs(j - g))


def test_fitting_goes_to_what_was_seen_and_stays_where_nothing_was() -> None:
    before = Centroids.linear()
    sums = Sums()
    index = np.full(100_000, 20, np.uint8)
    u = np.tile([0.5078125, -0.5078125], 50_000)
    sums.add(index, u, np.sign(u) * 0.75)
    fitted = fit_centroids(sums, before)
    assert fitted.estimate(np.array([20]), np.array([-0.5078125])) == pytest.approx(-0.75, abs=1e-3)
    changed = np.argwhere(fitted.table != before.table)
    assert changed.tolist() == [[20, 32]]


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((64, CENTROIDS), np.int32),
        np.zeros((63, CENTROIDS), np.int16),
        np.full((64, CENTROIDS), -1, np.int16),
    ],
    ids=["type", "shape", "negative"],
)
def test_bad_tables_are_refused(table: np.ndarray) -> None:
    with pytest.raises(BundleError, match="centroids"):
        Centroids(table)
