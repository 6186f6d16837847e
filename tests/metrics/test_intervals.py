"""Intervals: bootstrap over pictures, and Wilson's for shares."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import intervals


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 100 sets of 24 pictures, about 95 % of the intervals hold the rate of all pictures."""
    rng = np.random.default_rng(3)
    sets = rng.normal(-30, 12, (100, 24))
    found = [intervals.bootstrap_mean(values, seed=i) for i, values in enumerate(sets)]
    hits = sum(low <= -30 <= high for low, high in (f for f in found if f is not None))
    assert 88 <= hits <= 99
    low, high = np.mean(found, axis=0)
    assert high - low == pytest.approx(2 * 1.96 * 12 / 24**0.5, rel=0.1)


def test_intervals_of_what_is_often_undefined_are_left_out() -> None:
    def figure(draw: np.ndarray) -> float:
        return float("nan") if 0 in draw else 1.0

    assert intervals.bootstrap_interval(figure, 3) is None
    assert intervals.bootstrap_interval(lambda draw: 1.0, 3) == (1.0, 1.0)
    assert intervals.bootstrap_mean([1.0]) is None


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 1998, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_of_shares_are_those_of_the_literature(
    hits: int, trials: int, low: float, high: float
) -> None:
    assert intervals.share_interval(hits, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = intervals.share_interval(trials - hits, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)
    with pytest.raises(UsageError, match="got 3 of 2"):
        intervals.share_interval(3, 2)
