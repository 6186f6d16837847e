"""How sure a figure is: bootstrap intervals over pictures, and intervals of a share of trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rcodec_jax.errors import UsageError

SAMPLES = 1000
CONFIDENCE = 0.95
_DEFINED = 0.95
"""An interval needs a figure in at least this share of the samples."""

Interval = tuple[float, float]


def bootstrap_interval(
    figure: Callable[[np.ndarray], float],
    count: int,
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of a figure of `count` pictures (Efron, Tibshirani 1993).

    Pictures are drawn with replacement, `count` of them, `samples` times; the interval lies between
    the quantiles (1 - confidence) / 2 and (1 + confidence) / 2 of the figure. It tells how the
    figure would change with other pictures of the same kind. With a handful of pictures it is too
    narrow.

    Args:
      figure: takes indices of pictures int [count], in any order; not finite where it is undefined.
      seed: of the draws; the same one gives the same pictures for every figure.

    Returns:
      (low, high), or None with fewer than two pictures or if the figure is undefined in more than
      5 % of the samples.
    """
    if count < 2:
        return None
    draws = np.sort(np.random.default_rng(seed).integers(0, count, (samples, count)), axis=1)
    known: dict[bytes, float] = {}  # few pictures repeat the same draws
    for draw in draws:
        key = draw.tobytes()
        if key not in known:
            known[key] = figure(draw)
    values = np.array([known[draw.tobytes()] for draw in draws])
    values = values[np.isfinite(values)]
    if len(values) < _DEFINED * samples:
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Interval | None:
    """`bootstrap_interval` of the mean of values, one for each picture."""
    array = np.asarray(values, np.float64)
    return bootstrap_interval(lambda draw: float(array[draw].mean()), len(array), seed=seed)


def share_interval(hits: int, trials: int, *, z: float = 1.959964) -> Interval:
    """Wilson's score interval of a share, `hits` of `trials` (Wilson, JASA 1927).

    Args:
      z: quantile of the normal distribution; the default is that of 95 %.

    Raises:
      UsageError: no trials, or more hits than trials.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise UsageError(f"expected hits among at least one trial, got {hits} of {trials}")
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = share * (1 - share) / trials + z * z / (4 * trials * trials)
    half = z * math.sqrt(spread) / (1 + z * z / trials)
    # Rounding must not move the ends of a share that is all or nothing.
    low = 0.0 if hits == 0 else centre - half
    return low, 1.0 if hits == trials else centre + half
