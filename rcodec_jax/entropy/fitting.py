"""Tables of the latent fitted to the integers that an encoder writes.

In theory the integer of a dithered quantiser has the probability that `GaussianTables.build` says.
An encoder that leaves out integers which are not worth their bits writes more zeros than that, most
of all where sigma is small: there dither alone makes theory expect what never comes. Tables are
data of a model, so they can say what comes instead.
"""

from __future__ import annotations

import math

import numpy as np

from rcodec_jax.entropy.gaussian import (
    DITHER_POINTS,
    SIGMA_LEVELS,
    STORED_DITHERS,
    GaussianTables,
    dithered_probabilities,
    sigma_of_level,
)
from rcodec_jax.entropy.tables import integer_frequencies

REACH = 400
"""Integers beyond it in magnitude are not counted; theory speaks for them."""

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
    minimum = np.zeros((SIGMA_LEVELS, STORED_DITHERS), np.int64)
    count = np.zeros_like(minimum)
    parts = []
    for level in range(SIGMA_LEVELS):
        sigma = float(sigma_of_level(level))
        reach = min(max(math.ceil(5 * sigma) + 1, 3), REACH)
        k = np.arange(-reach, reach + 1)
        for index in range(STORED_DITHERS):
            dither = (2 * index + 1 - DITHER_POINTS) / (2 * DITHER_POINTS)
            theory, _ = dithered_probabilities(sigma, dither, k)
            seen = counts.counts[level, index]
            total = seen.sum() + _TRUST
            p = (seen[REACH - reach : REACH + reach + 1] + _TRUST * theory) / total
            # A value rarer than half a count is cheaper as an escape than as a whole count.
            keep = np.flatnonzero(p * 65536 >= 0.5)
            first, last = keep[0], keep[-1] + 1
            minimum[level, index] = k[first]
            count[level, index] = last - first
            listed = p[first:last]
            parts.append(integer_frequencies(listed, max(1.0 - listed.sum(), 0.0)))
    return GaussianTables(minimum, count, np.concatenate(parts))
