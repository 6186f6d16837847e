"""Interleaved rANS: many states side by side in NumPy, for payloads of large pictures.

Each lane holds an integer 2^24 <= x < 2^40 and takes 16-bit words from a stream that all share.
With totals of 2^16 the rounding of the states costs less than 1e-6 bit per symbol. Symbols come in
passes; number q of a pass belongs to lane q mod N. Integers only; the exact rules, which are part
of the file format, are in bitstream/FORMAT.md. Encoding goes backwards, so what the first states of
the encoder hold is what the decoder's last states give back: three bytes per lane that carry data
for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rcodec_jax.entropy.coder.intervals import Pairs
from rcodec_jax.entropy.coder.lanetables import BUCKET_BITS, MOST_CUTS, LaneTables
from rcodec_jax.entropy.coder.rangecoder import TOTAL, TOTAL_BITS
from rcodec_jax.entropy.coder.runs import Blocks, gap_tables
from rcodec_jax.errors import CorruptPayloadError

STATE_BITS = 24
"""States lie in 2^24 .. 2^40 - 1 between symbols."""

PAYLOAD_BYTES = STATE_BITS // 8
"""Bytes of data that the encoder's first state of a lane holds."""

_WORD_BITS = 16
_LEAST = np.uint64(1 << STATE_BITS)
_WORD = np.uint64(_WORD_BITS)
_BLOCK = 1 << 13  # symbols prepared at a time: their arrays stay in the cache


def encode(
    passes: Sequence[tuple[Pairs, np.ndarray]], states: np.ndarray
) -> tuple[np.ndarray, bytes]:
    """Codes symbols, the last first.

    Args:
      passes: intervals and, in the order of decoding, their numbers int [n]; number q of a pass
        goes to lane q mod N.
      states: uint64 [N], 2^24 .. 2^40 - 1, what the decoder shall end with.

    Returns:
      states uint64 [N] for the decoder to begin with, and the words, big-endian.
    """
    x = states.copy()
    words: list[np.ndarray] = []
    for pairs, numbers in reversed(passes):
        _encode_pass(pairs, numbers, x, words)
    words.reverse()
    joined = np.concatenate(words) if words else np.empty(0, np.uint64)
    return x, (joined & np.uint64(TOTAL - 1)).astype(">u2").tobytes()


def _encode_pass(pairs: Pairs, numbers: np.ndarray, x: np.ndarray, words: list[np.ndarray]) -> None:
    lanes = x.size
    quotient, full = np.empty_like(x), np.empty(lanes, bool)
    block = lanes * max(1, _BLOCK // lanes)
    for first in range((max(numbers.size, 1) - 1) // block * block, -1, -block):
        start, rest = pairs.take(numbers[first : first + block])
        freq = np.uint64(TOTAL) - rest
        limit = freq << np.uint64(STATE_BITS)
        for a in range((max(start.size, 1) - 1) // lanes * lanes, -1, -lanes):
            b = min(a + lanes, start.size)
            if b - a < lanes:  # the last, incomplete row
                y, q, m = x[: b - a], quotient[: b - a], full[: b - a]
            else:
                y, q, m = x, quotient, full
            np.greater_equal(y, limit[a:b], out=m)
            over = m.nonzero()[0]
            if over.size:
                large = y[over]
                words.append(large)
                y[over] = large >> _WORD
            # x // f 2^16 + x mod f + start, with one division
            np.floor_divide(y, freq[a:b], out=q)
            np.multiply(q, rest[a:b], out=q)
            np.add(q, start[a:b], out=q)
            np.add(y, q, out=y)


class _Row(NamedTuple):
    """Buffers of a row of symbols, one for each lane; those of a shorter row are views of them.

    Attributes:
      states: uint64, of the lanes.
      slot: uint16, the low bits of the states.
      pair: complex128, what `Pairs` gives for an interval: its start and its rest.
      start, rest: uint64, the halves of `pair`.
      high, flag: uint64 and bool, for what lies between.
    """

    states: np.ndarray
    slot: np.ndarray
    pair: np.ndarray
    start: np.ndarray
    rest: np.ndarray
    high: np.ndarray
    flag: np.ndarray

    @classmethod
    def of(cls, states: np.ndarray) -> _Row:
        lanes = states.size
        pair = np.empty(lanes, np.complex128)
        start, rest = pair.view(np.uint64).reshape(lanes, 2).T
        high, flag = np.empty(lanes, np.uint64), np.empty(lanes, bool)
        return cls(states, np.empty(lanes, np.uint16), pair, start, rest, high, flag)


class LaneReader:
    """Decodes what `encode` wrote; work and memory are bounded by the number of symbols.

    Args:
      states: uint64 [N], 2^24 .. 2^40 - 1.
      words: uint16 [W], W or more than were written.

    Attributes:
      states: uint64 [N], those now; taken: words taken so far.
    """

    def __init__(self, states: np.ndarray, words: np.ndarray) -> None:
        self.states, self.taken = states.copy(), 0
        self._words = words
        self._whole = self._row = _Row.of(self.states)

    def _slots(self, size: int) -> np.ndarray:
        """Slots uint16 [size] of the first lanes, which `_advance` goes on from."""
        row = self._row
        if size != row.slot.size:
            row = self._row = _Row(*(buffer[:size] for buffer in self._whole))
        np.copyto(row.slot, row.states, casting="unsafe")  # modulo 2^16
        return row.slot

    def _fetch(self, pairs: Pairs, numbers: np.ndarray) -> None:
        """Gets the intervals for the slots."""
        pairs.items.take(numbers, out=self._row.pair, mode="clip")

    def _search(self, pairs: Pairs, numbers: np.ndarray) -> None:
        """The same for numbers int64 that may be too low, and corrects them."""
        row = self._row
        self._fetch(pairs, numbers)
        np.subtract(row.slot, row.start, out=row.high)
        np.add(row.high, row.rest, out=row.high)
        late = np.greater_equal(row.high, np.uint64(TOTAL), out=row.flag).nonzero()[0]
        while late.size:  # an interval that starts inside the bucket
            number = numbers[late] + 1
            numbers[late] = number
            row.pair[late] = pairs.items.take(number)
            late = late[row.slot[late] - row.start[late] + row.rest[late] >= TOTAL]

    def _advance(self) -> None:
        """The states after the intervals that were got."""
        row = self._row
        x, high = row.states, row.high
        # x = f (x >> 16) + x mod 2^16 - start, where rest = 2^16 - f
        np.right_shift(x, _WORD, out=high)
        np.multiply(high, row.rest, out=high)
        np.add(high, row.start, out=high)
        np.subtract(x, high, out=x)
        thirsty = np.less(x, _LEAST, out=row.flag).nonzero()[0]
        if thirsty.size:
            drawn = self._words[self.taken : self.taken + thirsty.size]
            if drawn.size < thirsty.size:
                raise CorruptPayloadError("payload ends too early: its lanes need more words")
            self.taken += drawn.size
            x[thirsty] = x[thirsty] << _WORD | drawn

    def gaps(self, blocks: Blocks) -> np.ndarray:
        """Where in the blocks' order symbols are not modal: ascending int64 [m].

        Raises:
          CorruptPayloadError: the words end too early.
        """
        tables, lanes = gap_tables(), self.states.size
        begin, end, number = blocks.begin, blocks.end, blocks.number
        found = []
        while begin.size:
            base, row = tables.base[number], number << TOTAL_BITS
            left = end - begin
            none = (2 << tables.bits[number]) - left
            gap = np.empty(begin.size, np.int64)
            for a in range(0, begin.size, lanes):
                b = min(a + lanes, begin.size)
                g = gap[a:b]
                np.add(row[a:b], self._slots(b - a), out=g)
                g[:] = tables.gap.take(g)
                np.copyto(g, none[a:b], where=g >= left[a:b])
                self._fetch(tables.pairs, base[a:b] + g)
                self._advance()
            rare = np.flatnonzero(gap < left)
            begin = begin[rare] + gap[rare]
            found.append(begin)
            begin = begin + 1
            end, number = end[rare], number[rare]
            more = np.flatnonzero(begin < end)
            begin, end, number = begin[more], end[more], number[more]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def values(
        self,
        vector: LaneTables,
        contexts: np.ndarray,
        places: np.ndarray,
        plain: int,
        out: np.ndarray,
    ) -> np.ndarray:
        """Decodes values.

        Args:
          vector: the tables.
          contexts: int [n], of all symbols.
          places: int64 [m], those to decode; it is faster if neighbours have tables of similar
            length.
          plain: how many of them may have any value, the others not the modal one.
          out: int16 [n], takes the values; any for escapes.

        Returns:
          ascending int64, which of the m are escapes.

        Raises:
          CorruptPayloadError: the words end too early.
        """
        lanes = self.states.size
        escapes = [np.empty(0, np.int64)]
        block = lanes * max(1, _BLOCK // lanes)
        for first in range(0, places.size, block):
            at = places[first : first + block]
            context = contexts.take(at).astype(np.intp)
            table = vector.tables_of(context, plain - first)
            number = np.empty(at.size, np.int64)
            self._values(vector, table, number)
            k, outside = vector.listed(table, number)
            out[at] = k * vector.sign.take(context)
            escapes.append(outside + first)
        return np.concatenate(escapes)

    def _values(self, vector: LaneTables, table: np.ndarray, number: np.ndarray) -> None:
        """Decodes a block into the numbers of intervals."""
        lanes = self.states.size
        longest = int(vector.count.take(table).max())
        by_cuts = longest <= MOST_CUTS
        base = vector.base.take(table)
        if by_cuts:
            cuts = vector.cuts[: max(1, longest)].take(table, axis=1)
            above = np.empty((cuts.shape[0], lanes), bool)
        else:
            bucket_base = table << (TOTAL_BITS - BUCKET_BITS)
        for a in range(0, table.size, lanes):
            b = min(a + lanes, table.size)
            slot, where = self._slots(b - a), number[a:b]
            if by_cuts:
                passed = above[:, : b - a]
                np.greater(slot, cuts[:, a:b], out=passed)
                np.add(base[a:b], np.add.reduce(passed.view(np.uint8), 0, np.uint8), out=where)
                self._fetch(vector.pairs, where)
            else:
                np.add(bucket_base[a:b], slot >> np.uint16(BUCKET_BITS), out=where)
                where[:] = vector.bucket.take(where)
                self._search(vector.pairs, where)
            self._advance()
