"""Bjontegaard delta rate: mean rate difference of two curves at equal quality.

Bjontegaard, VCEG-M33, 2001, with piecewise cubic Hermite interpolation (PCHIP, Fritsch and Butland
1984) of log rate over quality, as in VCEG-AI11 and the JVET common test conditions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcodec_jax.errors import UsageError


def bd_rate(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
    *,
    higher_is_better: bool = True,
) -> float:
    """Rate of `test` against `anchor` in percent at equal quality; -20 means a fifth fewer bytes.

    Averaged (in log rate) over the quality range both curves cover. Points that a cheaper or equal
    point of their own curve matches or beats are dropped, so each curve is strictly monotone.
    Returns NaN where the ranges do not overlap or a curve has fewer than two points left.

    Args:
      anchor_rate, test_rate: positive, any common unit.
      anchor_quality, test_quality: e.g. PSNR; LPIPS with `higher_is_better=False`.

    Raises:
      UsageError: rates and qualities that do not go together, or a rate that is not positive.
    """
    sign = 1.0 if higher_is_better else -1.0
    quality_a, log_rate_a = _curve(anchor_rate, anchor_quality, sign)
    quality_t, log_rate_t = _curve(test_rate, test_quality, sign)
    both = _range(quality_a, quality_t)
    if both is None:
        return float("nan")
    low, high = both
    area_a = pchip_integral(quality_a, log_rate_a, low, high)
    area_t = pchip_integral(quality_t, log_rate_t, low, high)
    return float(100.0 * np.expm1((area_t - area_a) / (high - low)))


def common_range(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
    *,
    higher_is_better: bool = True,
) -> tuple[float, float] | None:
    """Qualities that `bd_rate` averages over, lowest first; None where it is undefined."""
    sign = 1.0 if higher_is_better else -1.0
    qualities = (
        _curve(rate, quality, sign)[0]
        for rate, quality in ((anchor_rate, anchor_quality), (test_rate, test_quality))
    )
    both = _range(*qualities)
    if both is None:
        return None
    low, high = sorted(sign * quality for quality in both)
    return low, high


def _range(quality_a: np.ndarray, quality_t: np.ndarray) -> tuple[float, float] | None:
    """What two ascending curves of at least two points cover both."""
    if min(len(quality_a), len(quality_t)) < 2:
        return None
    low, high = max(quality_a[0], quality_t[0]), min(quality_a[-1], quality_t[-1])
    return (float(low), float(high)) if low < high else None


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivatives of the monotone cubic at its points (x, y); `x` strictly increasing [n]."""
    width, secant = np.diff(x), np.diff(y) / np.diff(x)
    if len(x) == 2:
        return np.full(2, secant[0])
    slopes = np.zeros(len(x))
    before, after = secant[:-1], secant[1:]
    weight_before = 2 * width[1:] + width[:-1]
    weight_after = width[1:] + 2 * width[:-1]
    same_way = before * after > 0
    # Weighted harmonic mean; zero at a local extremum, which keeps the interpolant monotone.
    total = (weight_before + weight_after)[same_way]
    inverse = weight_before[same_way] / before[same_way] + weight_after[same_way] / after[same_way]
    slopes[1:-1][same_way] = total / inverse
    slopes[0] = _end_slope(width[0], width[1], secant[0], secant[1])
    slopes[-1] = _end_slope(width[-1], width[-2], secant[-1], secant[-2])
    return slopes


def pchip_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Exact integral of the PCHIP interpolant of (x, y) over [low, high] within [x[0], x[-1]]."""
    slopes = pchip_slopes(x, y)

    def antiderivative(at: float) -> float:
        """Integral from x[0] to `at`."""
        width = np.diff(x)
        # Share of each interval that lies below `at`, in 0..1.
        u = np.clip((at - x[:-1]) / width, 0.0, 1.0)
        u2, u3, u4 = u * u, u**3, u**4
        value = (
            y[:-1] * (u4 / 2 - u3 + u)
            + y[1:] * (u3 - u4 / 2)
            + width * slopes[:-1] * (u4 / 4 - 2 * u3 / 3 + u2 / 2)
            + width * slopes[1:] * (u4 / 4 - u3 / 3)
        )
        return float(np.sum(width * value))

    return antiderivative(high) - antiderivative(low)


def _end_slope(h0: float, h1: float, secant0: float, secant1: float) -> float:
    """Three-point slope at an end, limited so the interpolant keeps the data's direction."""
    slope = ((2 * h0 + h1) * secant0 - h0 * secant1) / (h0 + h1)
    if slope * secant0 <= 0:
        return 0.0
    if secant0 * secant1 <= 0 and abs(slope) > 3 * abs(secant0):
        return float(3 * secant0)
    return float(slope)


def _curve(
    rate: Sequence[float], quality: Sequence[float], sign: float
) -> tuple[np.ndarray, np.ndarray]:
    rates, qualities = np.asarray(rate, np.float64), sign * np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape:
        raise UsageError(
            f"a curve needs as many rates as qualities, got {rates.shape} and {qualities.shape}"
        )
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and (rates > 0).all()):
        raise UsageError("a curve needs finite qualities and positive, finite rates")
    order = np.lexsort((-qualities, rates))
    rates, qualities = rates[order], qualities[order]
    if len(rates) == 0:
        return qualities, rates
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(qualities)[:-1]])
    kept = qualities > best_before
    return qualities[kept], np.log(rates[kept])
