"""Tables of dithered Gaussians and the fixed-point index into them (FORMAT.md, section 6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from rcodec_jax.entropy.coder.lanetables import LaneTables
from rcodec_jax.entropy.coder.rangecoder import TOTAL
from rcodec_jax.entropy.coder.tables import TableBank, integer_frequencies
from rcodec_jax.errors import BundleError
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN

PRIOR_BITS = 11
"""Fraction bits of the prior mean, of log2 sigma and of log2 s."""

SIGMA_LEVELS = 64
DITHER_POINTS = 64
STORED_DITHERS = DITHER_POINTS // 2

# log2(0.01) 2^11 and 63 / log2(6400) 2^27 / 2^11, rounded; written out because the format has them
INDEX_ORIGIN = -13607
INDEX_STEP = 326543
INDEX_SHIFT = 27
_INDEX_SPAN = 26000  # past the last level for any input


def sigma_of_level(level: np.ndarray | int) -> np.ndarray:
    """s sigma of a level, 0.01 .. 64 evenly in log2 (float; for freezing and training)."""
    ratio = math.log2(SCALE_MAX / SCALE_MIN) / (SIGMA_LEVELS - 1)
    return np.asarray(SCALE_MIN * np.exp2(np.asarray(level, np.float64) * ratio))


Probabilities = Callable[[int, int, np.ndarray], tuple[np.ndarray, float]]
"""(level, stored dither index, consecutive integers k) -> P(k) of each, and that of all others."""


def dithered_probabilities(level: int, index: int, k: np.ndarray) -> tuple[np.ndarray, float]:
    """`Probabilities` of a dithered Gaussian in theory (float; freezing only)."""
    sigma = float(sigma_of_level(level))
    dither = (2 * index + 1 - DITHER_POINTS) / (2 * DITHER_POINTS)
    edge = (np.append(k, k[-1] + 1) - dither - 0.5) / (sigma * math.sqrt(2.0))
    upper = np.array([0.5 * math.erfc(e) for e in edge])
    lower = np.array([0.5 * math.erfc(-e) for e in edge])
    # differences of the smaller tail keep relative precision
    inside = np.where(edge[:-1] > 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1])
    return inside, float(lower[0] + upper[-1])


class GaussianTables:
    """Integer tables by (level of s sigma, dither index), mirror symmetric in the dither.

    Args:
      minimum: int [64, 32], least listed k of each stored table.
      count: int [64, 32], listed values.
      freq: int [sum(count)], frequencies, level after level, dither after dither.

    Raises:
      BundleError: wrong shapes or contents.
    """

    def __init__(self, minimum: np.ndarray, count: np.ndarray, freq: np.ndarray) -> None:
        shape = (SIGMA_LEVELS, STORED_DITHERS)
        if minimum.shape != shape or count.shape != shape or freq.ndim != 1:
            raise BundleError(
                f"Gaussian tables: expected {shape}, got {minimum.shape} and {count.shape}"
            )
        self.bank = TableBank(minimum, count, freq)

    @classmethod
    def build(cls) -> GaussianTables:
        """Makes the tables, once, at freezing; the only float arithmetic of this class."""
        return cls.tabulate(dithered_probabilities)

    @classmethod
    def tabulate(cls, probabilities: Probabilities, *, least_reach: int = 0) -> GaussianTables:
        """Makes tables of probabilities, in floats.

        Args:
          probabilities: of consecutive integers k, given level and stored dither.
          least_reach: integers up to it in magnitude are asked for even where sigma is small.
        """
        minimum = np.zeros((SIGMA_LEVELS, STORED_DITHERS), np.int64)
        count = np.zeros_like(minimum)
        parts = []
        for level in range(SIGMA_LEVELS):
            reach = max(math.ceil(5 * float(sigma_of_level(level))) + 1, least_reach)
            for index in range(STORED_DITHERS):
                k = np.arange(-reach, reach + 1)
                p, _ = probabilities(level, index, k)
                # a value rarer than half a count is cheaper as an escape than as a whole count
                keep = np.flatnonzero(p * 65536 >= 0.5)
                k = k[keep[0] : keep[-1] + 1]
                p, outside = probabilities(level, index, k)
                minimum[level, index] = k[0]
                count[level, index] = k.size
                parts.append(integer_frequencies(p, outside))
        return cls(minimum, count, np.concatenate(parts))

    @staticmethod
    def index(log2_sigma: np.ndarray, node_log2_s: np.ndarray) -> np.ndarray:
        """Level of s sigma: clip(round((log2 sigma + log2 s - log2 0.01) step), 0, 63).

        Args:
          log2_sigma, node_log2_s: int16 or int32, 11 fraction bits, broadcast against each other.

        Returns:
          uint8, 0..63.
        """
        total = np.add(log2_sigma, node_log2_s, dtype=np.int32)
        return _INDEX_TABLE[np.clip(total, INDEX_ORIGIN, INDEX_ORIGIN + _INDEX_SPAN) - INDEX_ORIGIN]

    @staticmethod
    def select(sigma_index: np.ndarray, dither_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stored table and mirror sign of each symbol.

        Args:
          sigma_index, dither_index: uint8, same shape, 0..63.

        Returns:
          tables int64 and signs int64 (+1 or -1): the bank codes k = sign j.
        """
        dither = dither_index.astype(np.int64)
        mirrored = dither >= STORED_DITHERS
        stored = np.where(mirrored, DITHER_POINTS - 1 - dither, dither)
        return sigma_index.astype(np.int64) * STORED_DITHERS + stored, np.where(mirrored, -1, 1)

    @cached_property
    def others(self) -> np.ndarray:
        """What of 2^16 all values but 0 have, by level and dither index: int64 [64, 64]."""
        bank = self.bank
        listed = (bank.minimum <= 0) & (bank.minimum + bank.count > 0)
        of_zero = np.where(listed, bank.freq[bank.base + np.where(listed, 1 - bank.minimum, 0)], 0)
        stored = (TOTAL - of_zero).reshape(SIGMA_LEVELS, STORED_DITHERS)
        return np.concatenate([stored, stored[:, ::-1]], axis=1)

    @cached_property
    def lanes(self) -> LaneTables:
        """The tables for lanes, by context 64 sigma index + dither index."""
        level, dither = np.divmod(np.arange(SIGMA_LEVELS * DITHER_POINTS), DITHER_POINTS)
        tables, signs = self.select(level.astype(np.uint8), dither.astype(np.uint8))
        return LaneTables(self.bank, tables, signs < 0)

    def bits(self, sigma_index: np.ndarray, dither_index: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Ideal code length of each j under the integer tables, escapes included: float64."""
        tables, signs = self.select(sigma_index, dither_index)
        return self.bank.bits(tables, np.asarray(j, np.int64) * signs)


def _index_table() -> np.ndarray:
    distance = np.arange(_INDEX_SPAN + 1, dtype=np.int64)
    index = (distance * INDEX_STEP + (1 << (INDEX_SHIFT - 1))) >> INDEX_SHIFT
    return np.minimum(index, SIGMA_LEVELS - 1).astype(np.uint8)


_INDEX_TABLE = _index_table()
