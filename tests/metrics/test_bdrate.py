"""BD-rate: limits known in closed form, and PCHIP against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import bdrate

RATE = [0.1, 0.2, 0.35, 0.6, 1.0]
QUALITY = [22.0, 25.1, 27.6, 30.0, 31.7]


@given(st.integers(2, 9), st.integers(0, 10_000), st.booleans())
@settings(deadline=None, max_examples=60)
def test_pchip_integral_and_slopes_agree_with_scipy(count: int, seed: int, rising: bool) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.05, 3, count))
    y = np.cumsum(rng.uniform(0.01, 1, count)) if rising else rng.normal(size=count)
    reference = PchipInterpolator(x, y)
    np.testing.assert_allclose(bdrate.pchip_slopes(x, y), reference.derivative()(x), atol=1e-9)
    low, high = np.sort(rng.uniform(x[0], x[-1], 2))
    expected = float(reference.integrate(low, high))
    np.testing.assert_allclose(bdrate.pchip_integral(x, y, low, high), expected, atol=1e-9)


def test_equal_curves_differ_by_nothing_and_scaled_ones_by_the_scale() -> None:
    assert bdrate.bd_rate(RATE, QUALITY, RATE, QUALITY) == pytest.approx(0, abs=1e-9)
    fewer = [0.7 * r for r in RATE]
    assert bdrate.bd_rate(RATE, QUALITY, fewer, QUALITY) == pytest.approx(-30, abs=1e-9)
    assert bdrate.bd_rate(fewer, QUALITY, RATE, QUALITY) == pytest.approx(100 / 0.7 - 100, abs=1e-9)


def test_lower_is_better_is_the_mirror_image() -> None:
    loss = [50 - q for q in QUALITY]
    fewer = [0.8 * r for r in RATE]
    value = bdrate.bd_rate(RATE, loss, fewer, loss, higher_is_better=False)
    assert value == pytest.approx(-20, abs=1e-9)


def test_only_the_common_quality_range_counts() -> None:
    """A log-linear law sampled at other places and further out gives the same constant gain."""
    law = np.poly1d([3.0, 30.0])  # quality = 3 log rate + 30
    a, b = np.array([0.1, 0.2, 0.4, 0.8]), np.array([0.05, 0.15, 0.3, 0.9, 2.0])
    value = bdrate.bd_rate(a, law(np.log(a)), 0.75 * b, law(np.log(b)))
    assert value == pytest.approx(-25, abs=1e-6)


def test_order_does_not_matter_and_dominated_points_are_dropped() -> None:
    expected = bdrate.bd_rate(RATE, QUALITY, [0.9 * r for r in RATE], QUALITY)
    rate = [0.9 * r for r in reversed(RATE)] + [0.5, 0.1]
    quality = list(reversed(QUALITY)) + [24.0, 21.0]
    assert bdrate.bd_rate(RATE, QUALITY, rate, quality) == pytest.approx(expected, abs=1e-9)


def test_no_overlap_or_too_few_points_is_nan() -> None:
    assert np.isnan(bdrate.bd_rate(RATE, QUALITY, RATE, [q + 20 for q in QUALITY]))
    assert np.isnan(bdrate.bd_rate(RATE, QUALITY, [0.3], [25.0]))
    assert np.isnan(bdrate.bd_rate([], [], RATE, QUALITY))
    assert bdrate.common_range(RATE, QUALITY, [1.0, 2.0], [40.0, 41.0]) is None


def test_the_range_is_of_the_points_that_count() -> None:
    assert bdrate.common_range(RATE, QUALITY, [1.0, 2.0], [30.0, 40.0]) == (30.0, 31.7)
    # A dearer point that is worse is left out of both.
    assert bdrate.common_range([0.1, 0.2, 0.3], [30, 29, 33], [0.1, 0.2], [28, 34]) == (30, 33)
    down = bdrate.common_range([1, 2], [0.5, 0.2], [1, 2], [0.4, 0.1], higher_is_better=False)
    assert down == (0.2, 0.4)


@pytest.mark.parametrize("rate", [[0.1, 0.2], [0.0, 1, 2, 3, 4], [np.nan, 1, 2, 3, 4]])
def test_bad_curves_are_named(rate: list[float]) -> None:
    with pytest.raises(UsageError, match="a curve needs"):
        bdrate.bd_rate(rate, QUALITY, RATE, QUALITY)
