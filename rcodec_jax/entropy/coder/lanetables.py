"""Tables in the layout that vectorised coding wants: intervals numbered throughout."""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.coder.intervals import Pairs
from rcodec_jax.entropy.coder.rangecoder import TOTAL, TOTAL_BITS
from rcodec_jax.entropy.coder.runs import CLASSES, table_classes
from rcodec_jax.entropy.coder.tables import TableBank

MOST_CUTS = 16
"""Tables with more intervals are searched through buckets."""

BUCKET_BITS = 8
"""log2 of the slots of a bucket."""

_PIECE = 1 << 15
_NO_HOLE = np.iinfo(np.int32).max


class LaneTables:
    """A bank's T tables, and after them the same T given that the value is not the modal one.

    The modal value is the first of the most frequent listed ones. In table T + t its interval is
    missing; of the others, c slots before an interval become c 2^16 // (all but the modal one's).

    Args:
      bank: the tables.
      table, mirrored: int [contexts], bool [contexts]: the table of each context, and whether it
        codes -j instead of j.

    Attributes:
      bank: as given; tables: T.
      table: int64 [contexts]; sign: int32 [contexts], 1 or -1.
      rank: uint8 [contexts], CLASSES - 1 - the class of its table.
      modal: int16 [contexts], the most frequent j.
      base: int32 [2 T], number of each table's escape.
      minimum: int32 [2 T], least listed value; span: uint32 [2 T], how many values lie between the
        ends of the list; count: int64 [2 T], how many of them have intervals.
      pairs: of all intervals.
      cuts: uint16 [MOST_CUTS, 2 T], last slot before each listed value's interval.
      bucket: int32 [2 T 2^8], number of the interval that a bucket's first slot belongs to.
    """

    def __init__(self, bank: TableBank, table: np.ndarray, mirrored: np.ndarray) -> None:
        self.bank = bank
        self.tables = bank.count.size
        frequent = np.maximum.reduceat(bank.listed, bank.base - np.arange(self.tables))
        owner = np.repeat(np.arange(self.tables), bank.count + 1)
        place = np.arange(owner.size) - bank.base[owner]
        peaks = np.flatnonzero((bank.freq == frequent[owner]) & (place > 0))
        peak = peaks[np.unique(owner[peaks], return_index=True)[1]]  # the first of each table
        modal = bank.minimum - 1 + place[peak]
        self.table = table.astype(np.intp)
        self.sign = np.where(mirrored, -1, 1).astype(np.int32)
        self.rank = (CLASSES - 1 - table_classes(TOTAL - frequent, bank.count))[table].astype(
            np.uint8
        )
        self.modal = (modal[table] * self.sign).astype(np.int16)
        self.minimum = np.tile(bank.minimum.astype(np.int32), 2)
        self.span = np.tile(bank.count.astype(np.uint32), 2)
        self.count = np.concatenate([bank.count, bank.count - 1])
        none = np.full(self.tables, _NO_HOLE, np.int32)
        self._hole = np.concatenate([none, modal.astype(np.int32)])

        other = np.delete(np.arange(owner.size), peak)
        share = bank.freq[other]
        first = bank.base - np.arange(self.tables)  # of each table among the others
        before = np.cumsum(share) - share
        before -= before[first][owner[other]]
        whole = (TOTAL - frequent)[owner[other]]
        start = (before << TOTAL_BITS) // whole
        freq = ((before + share) << TOTAL_BITS) // whole - start
        self.base = np.concatenate([bank.base, owner.size + first]).astype(np.int32)
        start, freq = np.concatenate([bank.start, start]), np.concatenate([bank.freq, freq])
        owner = np.concatenate([owner, self.tables + owner[other]])
        self.pairs = Pairs(start, freq)
        self.cuts = np.full((MOST_CUTS, 2 * self.tables), TOTAL - 1, np.uint16)
        place = np.arange(freq.size) - self.base[owner]
        near = (place >= 1) & (place <= MOST_CUTS)
        self.cuts[place[near] - 1, owner[near]] = start[near] - 1
        buckets = 1 << (TOTAL_BITS - BUCKET_BITS)
        row = -(-start >> BUCKET_BITS) + owner * (buckets + 1)
        begun = np.bincount(row, minlength=2 * self.tables * (buckets + 1))
        begun = np.cumsum(begun.reshape(-1, buckets + 1), 1)[:, :buckets]
        self.bucket = (begun - 1 + self.base[:, None]).astype(np.int32).reshape(-1)

    def tables_of(self, contexts: np.ndarray, plain: int) -> np.ndarray:
        """Tables of symbols that are coded as values: int64 [n].

        Args:
          contexts: int [n]; the first `plain` symbols (any number) may have any value, the others
            not the modal one.
        """
        tables = self.table.take(contexts)
        tables[max(plain, 0) :] += self.tables
        return tables

    def intervals(
        self, contexts: np.ndarray, values: np.ndarray, places: np.ndarray, plain: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the intervals that code the values.

        Args:
          contexts: int [n]; values: int16 or int32 [n], of all symbols.
          places: int64 [m], which of them to code.
          plain: as for `tables_of`.

        Returns:
          intervals int32 [m] and, ascending, which of them are escapes.
        """
        numbers = np.empty(places.size, np.int32)
        escapes = [np.empty(0, np.int64)]
        for first in range(0, places.size, _PIECE):
            at = places[first : first + _PIECE]
            context = contexts.take(at).astype(np.intp)
            table = self.tables_of(context, plain - first)
            k = values.take(at) * self.sign.take(context)
            place = k - self.minimum.take(table)
            outside = np.flatnonzero(place.view(np.uint32) >= self.span.take(table))
            place += k <= self._hole.take(table)
            place[outside] = 0
            np.add(self.base.take(table), place, out=numbers[first : first + _PIECE])
            escapes.append(outside + first)
        return numbers, np.concatenate(escapes)

    def listed(self, tables: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of intervals: int32 [n], any for escapes; places of the escapes."""
        place = (numbers - self.base.take(tables)).astype(np.int32)
        outside = np.flatnonzero(place == 0)
        place += self.minimum.take(tables)
        place -= place <= self._hole.take(tables)
        return place, outside


def look_up(table: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """`table[contexts]`, piece by piece: what lies between stays in the cache."""
    out = np.empty(contexts.size, table.dtype)
    for first in range(0, contexts.size, _PIECE):
        piece = slice(first, first + _PIECE)
        out[piece] = table.take(contexts[piece])
    return out
