"""Tables fitted to counts: theory without any, what was counted with many, all integers codable."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.entropy.distributions.fitting import Counts, fit
from rcodec_jax.entropy.distributions.gaussian import DITHER_POINTS, SIGMA_LEVELS, GaussianTables


@pytest.fixture(scope="module")
def theory() -> GaussianTables:
    return GaussianTables.build()


def indices(level: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    dither = np.random.default_rng(seed).integers(0, DITHER_POINTS, size)
    return np.full(size, level, np.uint8), dither.astype(np.uint8)


def test_without_counts_tables_are_those_of_theory(theory) -> None:
    tables = fit(Counts())
    levels, dithers = (a.reshape(-1) for a in np.mgrid[:SIGMA_LEVELS, :DITHER_POINTS])
    for j in (-1, 0, 1, 3):
        args = levels.astype(np.uint8), dithers.astype(np.uint8), np.full(levels.size, j)
        found, expected = 2.0 ** -tables.bits(*args), 2.0 ** -theory.bits(*args)
        np.testing.assert_allclose(found, expected, atol=3 / 65536)


@pytest.mark.parametrize("level", [0, 30])
def test_many_counts_reach_the_entropy_of_their_source(theory, level) -> None:
    """Integers of a source of which theory knows nothing: 0 in 9 of 10 cases, else 1 or -1."""
    shares = np.array([0.05, 0.9, 0.05])
    j = np.random.default_rng(1).choice([-1, 0, 1], 400_000, p=shares)
    index, dither = indices(level, j.size)
    counts = Counts()
    counts.add(index, dither, j)
    entropy = -(shares * np.log2(shares)).sum()
    assert fit(counts).bits(index, dither, j).mean() == pytest.approx(entropy, rel=0.01)
    assert theory.bits(index, dither, j).mean() > 1.2 * entropy


def test_what_never_came_can_still_be_coded() -> None:
    counts = Counts()
    index, dither = indices(8, 2_000_000)
    counts.add(index, dither, np.zeros(index.size, np.int64))
    tables = fit(counts)
    assert tables.bits(index, dither, np.zeros(index.size, np.int64)).mean() < 0.001
    for j in (-30_000, -1, 1, 30_000):
        bits = tables.bits(index, dither, np.full(index.size, j))
        assert np.isfinite(bits).all() and bits.min() > 10


def test_mirrored_dithers_share_a_table() -> None:
    one, other = Counts(), Counts()
    index, dither = indices(20, 1000)
    j = np.random.default_rng(2).integers(-3, 4, index.size)
    one.add(index, dither, j)
    other.add(index, (DITHER_POINTS - 1 - dither).astype(np.uint8), -j)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts.sum() == index.size
