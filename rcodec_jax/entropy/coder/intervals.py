"""Intervals in the layout that vectorised coding looks them up in."""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.coder.rangecoder import TOTAL, TOTAL_BITS

COST_BITS = 8
"""Fraction bits of `Pairs.cost`."""


class Pairs:
    """Intervals, each start and 2^16 - freq as one item, so that one look-up fetches both.

    Args:
      start, freq: int [intervals].

    Attributes:
      items: complex128 [intervals], two uint64 each.
      cost: int32 [intervals], -log2 p in 2^-8 bit, for estimates.
    """

    def __init__(self, start: np.ndarray, freq: np.ndarray) -> None:
        both = np.stack([start, TOTAL - freq], 1).astype(np.uint64)
        self.items = both.view(np.complex128).reshape(-1)
        self.cost = np.round((TOTAL_BITS - np.log2(freq)) * (1 << COST_BITS)).astype(np.int32)

    def take(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """start and 2^16 - freq of intervals: uint64 [n] each."""
        start, rest = self.items.take(numbers).view(np.uint64).reshape(-1, 2).T.copy()
        return start, rest
