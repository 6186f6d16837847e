"""Rate-distortion optimised quantisation: which integers of a latent are worth their bits.

Encoders alone use it; decoders know nothing of it.
"""

from __future__ import annotations

import functools

import numpy as np

from rcodec_jax.entropy.distributions.centroids import (
    CENTROIDS,
    WIDE,
    Centroids,
    filled,
    place,
    taken_for,
)
from rcodec_jax.entropy.distributions.dither import dither_values
from rcodec_jax.entropy.distributions.fitting import REACH, Counts, fit
from rcodec_jax.entropy.distributions.gaussian import (
    SIGMA_LEVELS,
    STORED_DITHERS,
    GaussianTables,
    sigma_of_level,
)

RDOQ_LAMBDA = 16.0
"""Bits that a squared quantiser step of error is worth (`rdoq`), the same as in training.

At high rates the slope of rate against distortion is 6 / ln 2 = 8.7. More is best at the rates that
files have."""

_POINTS = 4001
_ROUNDS = 4
_SAMPLES = 1e5  # that a table's probabilities count for, against what theory says of rare integers


def rdoq(
    j: np.ndarray,
    v: np.ndarray,
    sigma: np.ndarray,
    bits: np.ndarray,
    tables: GaussianTables,
    sigma_index: np.ndarray,
    dither_index: np.ndarray,
    *,
    rdoq_lambda: float,
    centroids: Centroids | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moves integers towards 0 where that pays.

    Of j, one less and two less in magnitude, each position takes the one with the least
    bits + rdoq_lambda * (estimate - v)^2, where the estimate is what decoders take the integer for:
    its centroid, or the best linear one. Files stay ordinary files; decoders know nothing of it.

    Args:
      j: integers of any shape, of the dithered quantiser.
      v: scaled residual s (y - mu) [h, w, C], what j - g stands for.
      sigma: its deviation s sigma as the tables have it.
      bits: code lengths of j.
      tables, sigma_index, dither_index: what codes them.
      rdoq_lambda: bits per squared step.
      centroids: of the model; None for the linear estimate.

    Returns:
      (j, bits) after trimming, [h, w, C].
    """
    at = np.flatnonzero(j)
    first, v, dither, index = (a.reshape(-1)[at] for a in (j, v, dither_index, sigma_index))
    spread, g = sigma.reshape(-1)[at], dither_values(dither)

    def cost(integers: np.ndarray, length: np.ndarray) -> np.ndarray:
        estimate = taken_for(integers - g, spread, index, centroids)
        return length + rdoq_lambda * np.square(estimate - v)

    best, length = first, bits.reshape(-1)[at]
    least = cost(best, length)
    for less in (1, 2):
        other = first - np.sign(first) * np.minimum(less, np.abs(first))
        other_length = tables.bits(index, dither, other)
        other_cost = cost(other, other_length)
        better = other_cost < least
        best, length, least = (
            np.where(better, new, old)
            for new, old in ((other, best), (other_length, length), (other_cost, least))
        )
    j, bits = j.copy(), bits.copy()
    j.reshape(-1)[at], bits.reshape(-1)[at] = best, length
    return j, bits


@functools.cache
def expected_tables(rdoq_lambda: float) -> GaussianTables:
    """`expected_quantiser` of an encoder that reckons with linear estimates."""
    return _fixed_point(rdoq_lambda, None)[0]


@functools.cache
def expected_quantiser(rdoq_lambda: float) -> tuple[GaussianTables, Centroids]:
    """Tables and centroids of what an encoder that trims writes, before there is any.

    They are the fixed point in theory: tables and centroids say what is worth its bits, and what is
    written makes tables and centroids. Of a Laplacian, which latents are closer to than to the
    Gaussian that prices them: on Kodak its tables cost 2 to 4 % more than those fitted to pictures,
    theory without trimming 20 to 100 %.

    Args:
      rdoq_lambda: see `rdoq`.
    """
    tables, centroids = _fixed_point(rdoq_lambda, Centroids.linear())
    assert centroids is not None
    return tables, centroids


def _fixed_point(
    rdoq_lambda: float, centroids: Centroids | None
) -> tuple[GaussianTables, Centroids | None]:
    """Rounds of trimming a Laplacian by the tables and centroids of the round before."""
    quantiles = 2 * (np.arange(_POINTS) + 0.5) / _POINTS - 1
    unit = -np.sign(quantiles) * np.log1p(-np.abs(quantiles)) / np.sqrt(2.0)  # of deviation 1
    index = np.repeat(np.arange(STORED_DITHERS, dtype=np.uint8), _POINTS)
    g = dither_values(index)
    tables = GaussianTables.build()
    for _ in range(_ROUNDS if centroids is None else 2 * _ROUNDS):
        counts, means = Counts(), []
        for level in range(SIGMA_LEVELS):
            sigma = float(sigma_of_level(level))
            v = np.tile(sigma * unit, STORED_DITHERS)
            levels = np.full(v.shape, level, np.uint8)
            j = np.floor(v + g + 0.5).astype(np.int64)
            bits = tables.bits(levels, index, j)
            j, _ = rdoq(
                j, v, np.full(v.shape, sigma), bits, tables, levels, index,
                rdoq_lambda=rdoq_lambda, centroids=centroids,
            )  # fmt: skip
            counts.add(levels, index, np.clip(j, -REACH, REACH))
            if centroids is not None:
                means.append(_means(v, j - g) if sigma < WIDE else centroids.values[level])
        counts.counts = np.rint(counts.counts * (_SAMPLES / _POINTS)).astype(np.int64)
        tables = fit(counts)
        if centroids is not None:
            centroids = Centroids.rounded(np.stack(means))
    return tables, centroids


def _means(v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Mean of sign(u) v for each |u|: [192]."""
    at = place(u)
    near = at < CENTROIDS
    count, total = (
        np.bincount(at[near], weights, minlength=CENTROIDS)
        for weights in (None, (np.sign(u) * v)[near])
    )
    return filled(count, total)
