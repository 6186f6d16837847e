"""A bank of frequency tables with escapes: what the range coder codes symbols with."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rcodec_jax.entropy.coder.rangecoder import HALF, TOTAL, TOTAL_BITS, raw_bits
from rcodec_jax.errors import BundleError, CorruptPayloadError, RcodecError

SYMBOL_LIMIT = 1 << 15
"""Symbols lie in -(2^15 - 1) .. 2^15 - 1."""


def integer_frequencies(probabilities: np.ndarray, escape: float) -> np.ndarray:
    """Shares 2^16 among symbols and an escape. Float arithmetic: for freezing only.

    Args:
      probabilities: float64 [n], non-negative, not all zero, in proportion.
      escape: probability of everything that is not listed, as part of 1.

    Returns:
      int64 [n], each at least 1; 2^16 minus their sum (at least 1) is left for the escape.

    Raises:
      BundleError: more symbols than can be listed, or bad probabilities.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 1 or not 0 < p.size < TOTAL // 2:
        raise BundleError(f"need 1..{TOTAL // 2 - 1} probabilities, got shape {p.shape}")
    if not np.all(np.isfinite(p)) or p.min() < 0 or p.sum() <= 0 or not 0 <= escape <= 1:
        raise BundleError("probabilities must be finite, non-negative and not all zero")
    room = TOTAL - min(max(1, round(escape * TOTAL)), TOTAL - p.size)
    exact = p / p.sum() * room
    freq = np.maximum(1, np.floor(exact)).astype(np.int64)
    spare = room - int(freq.sum())
    if spare > 0:
        freq[np.argsort(freq - exact, kind="stable")[:spare]] += 1
    while spare < 0:  # many symbols were raised to 1: the most frequent ones pay, they notice least
        payers = np.argsort(-freq, kind="stable")[:-spare]
        payers = payers[freq[payers] > 1]
        freq[payers] -= 1
        spare += payers.size
    return freq


class TableBank:
    """T frequency tables of total 2^16; in each, interval 0 is the escape.

    Table t lists the values minimum[t] .. minimum[t] + count[t] - 1. Any other value is the escape
    followed by `escape_values` as an Exp-Golomb code of raw bits.

    Args:
      minimum: int [T], least listed value.
      count: int [T], number of listed values, at least 1.
      freq: int [sum(count)], frequencies of the listed values, table after table, at least 1;
        what is missing to 2^16 belongs to the escape, at least 1.

    Attributes:
      minimum, count: int64 [T], as given; listed: int64 [sum(count)], the given frequencies.
      base: int64 [T], number of each table's escape when all intervals are counted through.
      start, freq: int64 [T + sum(count)], every interval, each table's escape first.

    Raises:
      BundleError: a range or a sum is wrong.
    """

    def __init__(self, minimum: np.ndarray, count: np.ndarray, freq: np.ndarray) -> None:
        self.minimum = np.asarray(minimum, np.int64).reshape(-1)
        self.count = np.asarray(count, np.int64).reshape(-1)
        listed = np.asarray(freq, np.int64).reshape(-1)
        tables = self.minimum.size
        if tables == 0 or self.count.size != tables:
            raise BundleError(f"tables: {tables} minima but {self.count.size} counts")
        if self.count.min() < 1 or self.count.max() >= TOTAL:
            raise BundleError(f"tables: counts must be 1..{TOTAL - 1}")
        if listed.size != int(self.count.sum()):
            raise BundleError(f"tables: {int(self.count.sum())} frequencies, got {listed.size}")
        if listed.min() < 1:
            raise BundleError("tables: a listed symbol has frequency 0")
        last = self.minimum + self.count - 1
        if self.minimum.min() <= -SYMBOL_LIMIT or last.max() >= SYMBOL_LIMIT:
            raise BundleError(f"tables: a listed value is not within +-{SYMBOL_LIMIT - 1}")
        first = np.cumsum(self.count) - self.count
        escape = TOTAL - np.add.reduceat(listed, first)
        if escape.min() < 1:
            raise BundleError(f"tables: frequencies leave nothing of {TOTAL} for the escape")
        self.listed = listed
        self.base = first + np.arange(tables)
        self.freq = np.insert(listed, first, escape)
        owner = np.repeat(np.arange(tables), self.count + 1)
        self.start = np.cumsum(self.freq) - self.freq - owner * TOTAL
        self._bits = TOTAL_BITS - np.log2(self.freq.astype(np.float64))

    @cached_property
    def cumulative(self) -> list[list[int]]:
        """Per table the starts of its intervals and 2^16, as the range decoder wants them."""
        flat = self.start.tolist()
        ends = (self.base + self.count + 1).tolist()
        starts = self.base.tolist()
        return [[*flat[a:b], TOTAL] for a, b in zip(starts, ends, strict=True)]

    def _locate(self, tables: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interval of each value and, for escapes only, the values u in order."""
        offset = k - self.minimum[tables]
        outside = (offset < 0) | (offset >= self.count[tables])
        interval = self.base[tables] + np.where(outside, 0, offset + 1)
        return interval, self.escape_values(tables[outside], k[outside])

    def escape_values(self, tables: np.ndarray, k: np.ndarray) -> np.ndarray:
        """What follows the escape of each value that is not listed: int64 [n], at least 0."""
        far = k - self.minimum[tables]
        # signed Exp-Golomb: distances above the list are even, below it odd
        return np.where(far < 0, -2 * far - 1, 2 * (far - self.count[tables]))

    def intervals(self, tables: np.ndarray, k: np.ndarray) -> tuple[list[int], list[int]]:
        """Intervals that code the values, escapes written out.

        Args:
          tables: int [n]; k: int [n] values.

        Returns:
          (starts, freqs) as Python integers.

        Raises:
          RcodecError: |k| >= 2^15.
        """
        k = check_range(k)
        interval, value = self._locate(tables, k)
        starts, freqs = self.start[interval], self.freq[interval]
        if value.size:
            where = np.flatnonzero(interval == self.base[tables])
            bits, lengths = raw_bits(value)
            place = np.repeat(where + 1, lengths)
            starts = np.insert(starts, place, bits)
            freqs = np.insert(freqs, place, HALF)
        return starts.tolist(), freqs.tolist()

    def bits(self, tables: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Ideal code length -log2 p of the integer tables, escapes included: float64 [n]."""
        k = np.asarray(k, np.int64)
        interval, value = self._locate(tables, k)
        bits = self._bits[interval]
        if value.size:
            bits[interval == self.base[tables]] += raw_bits(value)[1]
        return bits

    def draw(self, tables: np.ndarray, words: np.random.Philox) -> np.ndarray:
        """Values int64 [n] distributed as the tables say; an escape is the one below the list."""
        keys = self.start + np.repeat(np.arange(self.count.size) * TOTAL, self.count + 1)
        k = np.empty(tables.size, np.int64)
        for first in range(0, tables.size, TOTAL):  # a block of some memory
            table = tables[first : first + TOTAL]
            slot = (words.random_raw(table.size) >> np.uint64(48)).astype(np.int64)
            found = np.searchsorted(keys, table * TOTAL + slot, side="right") - 1
            k[first : first + TOTAL] = found - self.base[table] - 1 + self.minimum[table]
        return k

    def values(
        self, tables: np.ndarray, symbols: list[int], escapes: list[tuple[int, int]]
    ) -> np.ndarray:
        """What the range decoder returned, as values: int64 [n].

        Raises:
          CorruptPayloadError: an escape names a value outside +-(2^15 - 1).
        """
        k = np.asarray(symbols, np.int64) - 2 + self.minimum[tables]
        for position, value in escapes:
            table = int(tables[position])
            least, count = int(self.minimum[table]), int(self.count[table])
            half = value >> 1
            far = least - 1 - half if value & 1 else least + count + half
            if abs(far) >= SYMBOL_LIMIT:
                raise CorruptPayloadError(f"escaped value {far} is not within +-32767")
            k[position] = far
        return k


def check_range(k: np.ndarray) -> np.ndarray:
    """The values, as int64 unless they are signed already.

    Raises:
      RcodecError: |k| >= 2^15, or not integers.
    """
    array = np.asarray(k)
    if array.dtype.kind not in "iu":
        raise RcodecError(f"symbols must be integers, got {array.dtype}")
    if array.dtype.kind == "u":
        array = array.astype(np.int64)
    if array.size:
        least, most = int(array.min()), int(array.max())
        if least <= -SYMBOL_LIMIT or most >= SYMBOL_LIMIT:
            worst = max(least, most, key=abs)
            raise RcodecError(f"symbols must lie within +-{SYMBOL_LIMIT - 1}, got {worst}")
    return array
