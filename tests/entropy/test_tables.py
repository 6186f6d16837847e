"""Integer tables: proper, close to the distributions they stand for, escapes for the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import (
    GaussianTables,
    StaticTables,
    dither_values,
    sigma_of_level,
)
from rcodec_jax.entropy.coder.rangecoder import HALF, TOTAL, RangeDecoder, RangeEncoder
from rcodec_jax.entropy.coder.tables import TableBank, integer_frequencies
from rcodec_jax.errors import BundleError, CorruptPayloadError, RcodecError


def phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_every_table_sums_to_the_total_and_ascends(gaussian: GaussianTables) -> None:
    cumulative = gaussian.bank.cumulative
    assert len(cumulative) == 64 * 32
    for cuts in cumulative:
        assert cuts[0] == 0 and cuts[-1] == TOTAL
        assert all(a < b for a, b in zip(cuts, cuts[1:], strict=False))


def test_levels_span_a_hundredth_to_sixty_four() -> None:
    sigma = sigma_of_level(np.arange(64))
    assert sigma[0] == pytest.approx(0.01) and sigma[-1] == pytest.approx(64)
    assert np.ptp(np.diff(np.log2(sigma))) < 1e-12


@pytest.mark.parametrize("level", [0, 5, 12, 20, 33, 50, 63])
def test_tables_cost_no_more_than_the_true_gaussian(gaussian: GaussianTables, level: int) -> None:
    """Cross entropy of the integer tables over the true entropy, averaged over the dither."""
    sigma = float(sigma_of_level(level))
    reach = math.ceil(6 * sigma) + 2
    k = np.arange(-reach, reach + 1)
    entropy = cost = 0.0
    for index in range(64):
        g = float(dither_values(np.array(index)))
        p = np.array([phi((v - g + 0.5) / sigma) - phi((v - g - 0.5) / sigma) for v in k])
        bits = gaussian.bits(np.full(k.size, level), np.full(k.size, index), k)
        cost += float((p * bits).sum()) / 64
        entropy += float(-(p[p > 0] * np.log2(p[p > 0])).sum()) / 64
    assert cost >= entropy - 1e-3
    assert cost - entropy < 1e-3 * entropy + 1e-4


def test_dither_is_mirror_symmetric(gaussian: GaussianTables) -> None:
    rng = np.random.default_rng(0)
    level, index = rng.integers(0, 64, 500), rng.integers(0, 64, 500)
    j = rng.integers(-40, 41, 500)
    assert np.array_equal(gaussian.bits(level, index, j), gaussian.bits(level, 63 - index, -j))


@given(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**16), 2**16))
def test_index_is_the_rounded_logarithm(log2_sigma: int, log2_s: int) -> None:
    index = GaussianTables.index(np.array([log2_sigma], np.int32), np.array([log2_s], np.int32))
    assert index.dtype == np.uint8
    exact = ((log2_sigma + log2_s) / 2048 - math.log2(0.01)) * 63 / math.log2(6400)
    assert abs(int(index[0]) - min(max(exact, 0), 63)) < 0.5 + 2e-3


def test_index_ascends_through_all_levels() -> None:
    total = np.arange(-20000, 20000, dtype=np.int32)
    index = GaussianTables.index(total, np.zeros_like(total)).astype(int)
    assert index[0] == 0 and index[-1] == 63
    assert set(np.diff(index)) == {0, 1}


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda p: sum(p) > 1e-6),
    st.floats(0, 1),
)
def test_frequencies_are_proper(probabilities: list[float], escape: float) -> None:
    freq = integer_frequencies(np.array(probabilities), escape)
    assert freq.min() >= 1
    assert TOTAL - freq.sum() >= 1
    assert abs((TOTAL - freq.sum()) - escape * TOTAL) <= 1 + len(probabilities)


@pytest.mark.parametrize(
    "probabilities", [np.zeros(3), np.array([]), np.array([1.0, -0.1]), np.array([np.nan])]
)
def test_bad_probabilities_are_refused(probabilities: np.ndarray) -> None:
    with pytest.raises(BundleError):
        integer_frequencies(probabilities, 0.0)


def test_static_tables_follow_their_probabilities() -> None:
    p = np.array([0.05, 0.15, 0.5, 0.2, 0.0999])
    tables = StaticTables.build([[(-2, p)], [(7, np.array([1.0]))]])
    cells = np.zeros((1, 5), np.uint8)
    z = np.stack([np.arange(-2, 3), np.full(5, 7)], -1)[None]
    bits = tables.bits(cells, z)
    assert bits[0, :, 0] == pytest.approx(-np.log2(p), abs=2e-3)
    assert bits[0, :, 1] == pytest.approx(np.zeros(5), abs=1e-4)


def bank() -> TableBank:
    return TableBank(
        np.array([-1, 10, 0]), np.array([3, 1, 2]), np.array([100, 60000, 200, 65535, 1, 1])
    )


def round_trip(tables: np.ndarray, k: np.ndarray) -> int:
    source = bank()
    encoder = RangeEncoder()
    encoder.encode(*source.intervals(tables, k))
    data = encoder.finish()
    decoder = RangeDecoder(data)
    values = source.values(tables, *decoder.decode(source.cumulative, tables.tolist()))
    decoder.finish()
    assert np.array_equal(values, k)
    return len(data)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-12, 12) | st.integers(-32767, 32767)),
        min_size=1,
        max_size=80,
    )
)
def test_listed_and_escaped_values_come_back(symbols: list[tuple[int, int]]) -> None:
    tables, k = (np.array(column) for column in zip(*symbols, strict=True))
    size = round_trip(tables, k)
    ideal = bank().bits(tables, k).sum() / 8
    assert ideal - 1 <= size <= ideal * 1.001 + 8


def test_every_escape_is_unique() -> None:
    k = np.concatenate([np.arange(-32767, -32700), np.arange(-70, 70), np.arange(32700, 32768)])
    for table in range(3):
        round_trip(np.full(k.size, table), k)


@pytest.mark.parametrize("bad", [2**15, -(2**15), 2**40])
def test_values_too_large_are_refused(bad: int) -> None:
    with pytest.raises(RcodecError, match=str(bad)):
        bank().intervals(np.array([0]), np.array([bad]))


def test_an_escape_past_the_range_is_corrupt() -> None:
    encoder = RangeEncoder()
    encoder.encode([0], [TOTAL - 60300])  # the escape of table 0
    encoder.encode([0] * 17 + [HALF] * 18, [HALF] * 35)  # the largest code there is
    decoder = RangeDecoder(encoder.finish())
    symbols, escapes = decoder.decode(bank().cumulative, [0])
    with pytest.raises(CorruptPayloadError):
        bank().values(np.array([0]), symbols, escapes)


@pytest.mark.parametrize(
    "minimum,count,freq",
    [
        ([0], [2], [5]),
        ([0], [1], [0]),
        ([0], [2], [65535, 1]),
        ([0], [0], []),
        ([32767], [2], [1, 1]),
        ([-32768], [2], [1, 1]),
        ([], [], []),
        ([0, 0], [1], [1]),
    ],
)
def test_improper_tables_are_refused(minimum: list[int], count: list[int], freq: list[int]) -> None:
    with pytest.raises(BundleError):
        TableBank(*(np.array(values, np.int64) for values in (minimum, count, freq)))
