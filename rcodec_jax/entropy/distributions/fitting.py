"""Tables of the latent fitted to the integers that an encoder writes.

In theory the integer of a dithered quantiser has the probability that `GaussianTables.build` says.
An encoder that leaves out integers which are not worth their bits writes more zeros than that, most
of all where sigma is small: there dither alone makes theory expect what never comes. Tables are
data of a model, so they can say what comes instead.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.distributions.centroids import CENTROIDS, WIDE, Centroids, place
from rcodec_jax.entropy.distributions.gaussian import (
    SIGMA_LEVELS,
    STORED_DITHERS,
    GaussianTables,
    dithered_probabilities,
    sigma_of_level,
)

REACH = 400
"""Integers beyond it in magnitude are not counted; theory speaks for them."""

SKIP = 33
"""Latents are not coded where fitted tables give other values than 0 less than this, of 2^16:
41 to 66 % of them on two photos at .4 and .15 bpp (`IntegerPart.skip`)."""

_LEAST_REACH = 3
"""Where sigma is small theory lists no integer beyond 2; an encoder may write more all the same."""

_TRUST = 64.0
"""Integers that theory counts as much as in each table."""


class Counts:
    """How often each integer came by table, for `fit`.

    Attributes:
      counts: int64 [64, 32, 2 REACH + 1] by level of s sigma, stored dither and sign k + REACH.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((SIGMA_LEVELS, STORED_DITHERS, 2 * REACH + 1), np.int64)

    def add(self, sigma_index: np.ndarray, dither_index: np.ndarray, j: np.ndarray) -> None:
        """Counts integers j with the indices that they were coded with, all of one shape."""
        tables, signs = GaussianTables.select(sigma_index.reshape(-1), dither_index.reshape(-1))
        k = signs * j.reshape(-1)
        near = np.abs(k) <= REACH
        at = tables[near] * (2 * REACH + 1) + k[near] + REACH
        self.counts += np.bincount(at, minlength=self.counts.size).reshape(self.counts.shape)


def fit(counts: Counts) -> GaussianTables:
    """Tables between what was counted and theory, the more of the former the more there is."""

    def probabilities(level: int, index: int, k: np.ndarray) -> tuple[np.ndarray, float]:
        theory, _ = dithered_probabilities(level, index, k)
        seen = counts.counts[level, index]
        p = (seen[k + REACH] + _TRUST * theory) / (seen.sum() + _TRUST)
        return p, max(1.0 - p.sum(), 0.0)

    return GaussianTables.tabulate(probabilities, least_reach=_LEAST_REACH)


class Sums:
    """What integers stood for, for `fit_centroids`.

    Attributes:
      count, total: float64 [64, 192], how often each |j - g| came by level of s sigma, and the sum
        of sign(j - g) v.
    """

    def __init__(self) -> None:
        self.count, self.total = np.zeros((2, SIGMA_LEVELS, CENTROIDS))

    def add(self, sigma_index: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """Adds values v that became u = j - g, with the level that they were coded with."""
        column = place(u)
        near = column < CENTROIDS
        at = sigma_index[near].astype(np.int64) * CENTROIDS + column[near]
        self.count += np.bincount(at, minlength=self.count.size).reshape(self.count.shape)
        values = np.sign(u[near]) * v[near]
        self.total += np.bincount(at, values, self.count.size).reshape(self.count.shape)


def fit_centroids(sums: Sums, before: Centroids) -> Centroids:
    """Centroids between what was seen and those of before, the more of the former the more of it;
    linear ones stay where spreads are wide."""
    values = (sums.total + _TRUST * before.values) / (sums.count + _TRUST)
    narrow = sigma_of_level(np.arange(SIGMA_LEVELS)) < WIDE
    return Centroids.rounded(np.where(narrow[:, None], values, before.values))
