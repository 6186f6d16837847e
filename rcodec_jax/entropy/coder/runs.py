"""Runs of certain symbols: one step of the coder for many symbols that are almost surely modal.

At low rates most tables have one value of probability near 1. Symbols whose tables agree in it are
put in blocks, and the coder says how far it is to the next symbol that is not the modal one. Sets
of tables and everything else here are integers that depend on no model: FORMAT.md, section 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from rcodec_jax.entropy.coder.intervals import Pairs
from rcodec_jax.entropy.coder.rangecoder import TOTAL, TOTAL_BITS

CLASSES = 256
"""Classes of tables."""

GAP_CLASSES = 112
"""Those coded by gaps: eight per octave, up to a rest of a quarter. The others are plain."""

_FINE_BITS = 3  # log2 of the classes per octave: none is wrong by more than 6 %
_MOST_IN_BLOCK_BITS = 7


def table_classes(rest: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Classes of tables.

    Args:
      rest: int [n], 1..65535, 2^16 less the frequency of the most frequent value.
      count: int [n], listed values, at least 1.

    Returns:
      uint8 [n]: by the rest if that is below 2^14 (its octave and the three bits below its first),
      else by the count.
    """
    octave = np.frexp(rest.astype(np.float64))[1] - 1  # exact on integers
    by_rest = ((rest << _FINE_BITS) >> octave) + ((octave - 1) << _FINE_BITS)
    by_count = np.minimum(GAP_CLASSES - 1 + count, CLASSES - 1)
    return np.where(by_rest < GAP_CLASSES, by_rest, by_count).astype(np.uint8)


def block_bits(octave: int) -> int:
    """log2 of the symbols in a block of a class of an octave."""
    return min(TOTAL_BITS - octave, _MOST_IN_BLOCK_BITS)


def gap_starts(number: int) -> list[int]:
    """Starts of the intervals of a class: gap g = 0, 1, ... and at last "none in the block"."""
    octave, fine = divmod(number, 1 << _FINE_BITS)
    rest = ((2 * ((1 << _FINE_BITS) + fine) + 1) << octave) >> (_FINE_BITS + 1)
    power, starts = 1 << 32, [0]
    for _ in range(1 << block_bits(octave)):
        power = power * (TOTAL - rest) >> TOTAL_BITS
        starts.append(TOTAL - (power >> TOTAL_BITS))
    return starts


@dataclass(frozen=True, eq=False)
class GapTables:
    """The classes' intervals in the layout of `lanes`, made once.

    Class c has, from `base[c]` on, the gaps 0 .. B - 1 and then "none in the r that are left" for
    r = B .. 1.

    Attributes:
      base: int64 [GAP_CLASSES].
      bits: int64 [GAP_CLASSES], log2 B.
      pairs: their intervals.
      gap: uint8 [GAP_CLASSES, 2^16], the gap that a slot says, B if none.
    """

    base: np.ndarray
    bits: np.ndarray
    pairs: Pairs
    gap: np.ndarray


@cache
def gap_tables() -> GapTables:
    """The tables of all classes that are coded by gaps."""
    bits = np.array([block_bits(c >> _FINE_BITS) for c in range(GAP_CLASSES)])
    start, freq, gap = [], [], np.empty((GAP_CLASSES, TOTAL), np.uint8)
    for number in range(GAP_CLASSES):
        cuts = np.array(gap_starts(number))
        start += [cuts[:-1], cuts[:0:-1]]
        freq += [np.diff(cuts), TOTAL - cuts[:0:-1]]
        gap[number] = np.repeat(np.arange(cuts.size, dtype=np.uint8), np.diff(cuts, append=TOTAL))
    base = np.cumsum(2 << bits) - (2 << bits)
    return GapTables(base, bits, Pairs(np.concatenate(start), np.concatenate(freq)), gap)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Symbols of a payload by falling class, those that are coded by gaps cut into blocks.

    Attributes:
      live: int64 [m], places of the symbols above class 0 by falling class, equal ones in raster
        order.
      certain: int32 or int64 [n - m], places of the others, which come after them.
      plain: how many of the live ones are coded one by one; the rest of all symbols has
      begin, end: int64 [blocks], where in the order above each block lies, and
      number: int64 [blocks], its class.
    """

    live: np.ndarray
    certain: np.ndarray
    plain: int
    begin: np.ndarray
    end: np.ndarray
    number: np.ndarray

    @classmethod
    def of(cls, rank: np.ndarray) -> Blocks:
        """The blocks of symbols whose classes are CLASSES - 1 - rank, uint8 [n]."""
        # most symbols are of class 0: taking them apart is faster than sorting them
        last = CLASSES - 1
        above = rank != last
        kind = np.int32 if rank.size < 1 << 31 else np.int64
        live, certain = np.flatnonzero(above), np.flatnonzero(~above).astype(kind)
        ranks = rank.take(live)
        order = np.argsort(ranks, kind="stable")
        ends = np.searchsorted(ranks.take(order), np.arange(last), side="right")
        ends = np.append(ends, rank.size)[CLASSES - GAP_CLASSES - 1 :]
        # from here on by class, falling
        number = np.arange(GAP_CLASSES)[::-1]
        size = np.int64(1) << gap_tables().bits[::-1]
        blocks = -(-np.diff(ends) // size)
        which = np.repeat(np.arange(GAP_CLASSES), blocks)
        place = np.arange(which.size) - (np.cumsum(blocks) - blocks)[which]
        begin = ends[:-1][which] + place * size[which]
        end = np.minimum(begin + size[which], ends[1:][which])
        return cls(live.take(order), certain, int(ends[0]), begin, end, number[which])

    def places(self, at: np.ndarray) -> np.ndarray:
        """Places in raster order of the symbols that are coded as values: int64 [plain + m].

        Args:
          at: int64 [m], ascending, symbols in the blocks' order.
        """
        split = int(np.searchsorted(at, self.live.size))
        certain = self.certain.take(at[split:] - self.live.size)
        return np.concatenate([self.live[: self.plain], self.live.take(at[:split]), certain])

    def rare(self, unusual: np.ndarray) -> np.ndarray:
        """Where in the order the blocks have symbols that are not modal: ascending int64 [m].

        Args:
          unusual: bool [n], in raster order, which symbols these are.
        """
        among = self.plain + np.flatnonzero(unusual.take(self.live[self.plain :]))
        far = np.flatnonzero(unusual.take(self.certain))
        return np.concatenate([among, self.live.size + far])


def gaps(blocks: Blocks, rare: np.ndarray) -> list[np.ndarray]:
    """What to code for the blocks, as numbers of intervals.

    Args:
      blocks: the blocks.
      rare: ascending int64 [m], where in their order symbols are not modal.

    Returns:
      One array of intervals a round; the first has one for every block.
    """
    tables = gap_tables()
    first = np.searchsorted(rare, blocks.begin)
    beyond = np.searchsorted(rare, blocks.end)
    padded = np.append(rare, 0)
    base, size = tables.base[blocks.number], np.int64(1) << tables.bits[blocks.number]
    begin, end = blocks.begin, blocks.end
    rounds = []
    while begin.size:
        found = first < beyond
        where = padded[first]
        rounds.append(base + np.where(found, where - begin, 2 * size + begin - end))
        again = np.flatnonzero(found & (where + 1 < end))
        begin, end = where[again] + 1, end[again]
        first, beyond, base, size = first[again] + 1, beyond[again], base[again], size[again]
    return rounds
