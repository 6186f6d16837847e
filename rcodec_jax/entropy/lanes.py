"""Interleaved rANS: many states side by side in NumPy, for payloads of large pictures.

Symbol q belongs to lane q mod N. Each lane holds an integer 2^24 <= x < 2^40 and takes 16-bit words
from a stream that all share. With totals of 2^16 the rounding of the states costs less than 1e-6
bit per symbol. Integers only; the exact rules, which are part of the file format, are in
bitstream/FORMAT.md. Encoding goes backwards, so what the first states of the encoder hold is what
the decoder's last states give back: three bytes per lane that carry data for free.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from rcodec_jax.entropy.rangecoder import TOTAL, TOTAL_BITS
from rcodec_jax.entropy.tables import TableBank
from rcodec_jax.errors import CorruptPayloadError

STATE_BITS = 24
"""States lie in 2^24 .. 2^40 - 1 between symbols."""

PAYLOAD_BYTES = STATE_BITS // 8
"""Bytes of data that the encoder's first state of a lane holds."""

COST_BITS = 8
"""Fraction bits of `LaneTables.cost`."""

_WORD_BITS = 16
_LEAST = np.uint64(1 << STATE_BITS)
_WORD = np.uint64(_WORD_BITS)
_BLOCK = 1 << 13  # symbols prepared at a time: their arrays stay in the cache
_MOST_CUTS = 24  # tables with more intervals are searched through buckets
_BUCKET_BITS = 8


class LaneTables:
    """A bank's tables in the layout that vectorised coding wants; intervals numbered throughout.

    Attributes:
      base: int64 [T], number of each table's escape.
      minimum, count: int32 [T], as in the bank.
      start, freq: uint64 [intervals].
      cost: int32 [intervals], -log2 p in 2^-8 bit, for estimates.
    """

    def __init__(self, bank: TableBank) -> None:
        start, freq, size = bank.start, bank.freq, bank.count.size
        owner = np.repeat(np.arange(size), bank.count + 1)
        self.base = bank.base
        self.minimum = bank.minimum.astype(np.int32)
        self.count = bank.count.astype(np.int32)
        self.start, self.freq = start.astype(np.uint64), freq.astype(np.uint64)
        self.cost = np.round((TOTAL_BITS - np.log2(freq)) * (1 << COST_BITS)).astype(np.int32)
        self._shifted = (self.base + 1 - bank.minimum).astype(np.int32)
        # start and 2^16 - freq side by side, as one 16-byte item: one look-up fetches both
        self._pairs = np.stack([self.start, TOTAL - self.freq], 1).view(np.complex128).reshape(-1)
        # last slot before interval c + 1 of each table; no slot lies beyond 65535
        self._cuts = np.full((_MOST_CUTS, size), TOTAL - 1, np.uint16)
        place = np.arange(freq.size) - self.base[owner]
        near = (place >= 1) & (place <= _MOST_CUTS)
        self._cuts[place[near] - 1, owner[near]] = start[near] - 1
        # the interval that the first slot of each bucket belongs to
        buckets = 1 << (TOTAL_BITS - _BUCKET_BITS)
        row = -(-start >> _BUCKET_BITS) + owner * (buckets + 1)
        begun = np.bincount(row, minlength=size * (buckets + 1))
        begun = np.cumsum(begun.reshape(size, buckets + 1), 1)[:, :buckets]
        self._bucket = (begun - 1 + self.base[:, None]).astype(np.int32).reshape(-1)

    def intervals(self, tables: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the intervals that code the values.

        Args:
          tables: int [n]; k: int32 [n].

        Returns:
          intervals int32 [n] and, ascending, the places of the escapes among them.
        """
        number = np.empty(k.size, np.int32)
        escapes = []
        for first in range(0, k.size, _BLOCK):
            part = slice(first, first + _BLOCK)
            table, value = tables[part].astype(np.intp), k[part]
            np.add(self._shifted.take(table), value, out=number[part])
            above = (value - self.minimum.take(table)).view(np.uint32)
            outside = np.flatnonzero(above >= self.count.take(table).view(np.uint32))
            if outside.size:
                number[part][outside] = self.base[table[outside]]
                escapes.append(outside + first)
        return number, np.concatenate(escapes) if escapes else np.empty(0, np.int64)

    def escape_values(self, tables: np.ndarray, k: np.ndarray) -> np.ndarray:
        """What follows each escape, as FORMAT.md has it: int64 [n], at least 0."""
        least, count = self.minimum[tables].astype(np.int64), self.count[tables]
        below = least - 1 - k
        return np.where(below >= 0, 2 * below + 1, 2 * (k - least - count))

    def encode(self, intervals: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, bytes]:
        """Codes symbols, the last first.

        Args:
          intervals: int [n], in the order of decoding; number q goes to lane q mod N.
          states: uint64 [N], 2^24 .. 2^40 - 1, what the decoder shall end with.

        Returns:
          states uint64 [N] for the decoder to begin with, and the words, big-endian.
        """
        lanes = states.size
        x, quotient, full = states.copy(), np.empty_like(states), np.empty(lanes, bool)
        words: list[np.ndarray] = []
        block = lanes * max(1, _BLOCK // lanes)
        for first in range((max(intervals.size, 1) - 1) // block * block, -1, -block):
            number = intervals[first : first + block]
            start, rest = self._pairs.take(number).view(np.uint64).reshape(-1, 2).T.copy()
            freq = np.uint64(TOTAL) - rest
            limit = freq << np.uint64(STATE_BITS)
            for a in range((max(number.size, 1) - 1) // lanes * lanes, -1, -lanes):
                b = min(a + lanes, number.size)
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
        words.reverse()
        joined = np.concatenate(words) if words else np.empty(0, np.uint64)
        return x, (joined & np.uint64(TOTAL - 1)).astype(">u2").tobytes()

    def decode(
        self, tables: np.ndarray, states: np.ndarray, words: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Decodes what `encode` wrote; work and memory are bounded by the number of symbols.

        Args:
          tables: int [n], table of each symbol; it is faster if neighbours have tables of
            similar length.
          states: uint64 [N], 2^24 .. 2^40 - 1; words: uint16 [W], W or more than were written.

        Returns:
          (k int32 [n], any value for escapes; ascending places of the escapes; the states at the
          end, uint64 [N]; number of words taken).

        Raises:
          CorruptPayloadError: the words end too early.
        """
        lanes, taken = states.size, 0
        x = states.copy()
        k = np.empty(tables.size, np.int32)
        escapes = []
        block = lanes * max(1, _BLOCK // lanes)
        for first in range(0, tables.size, block):
            table = tables[first : first + block].astype(np.intp)
            number = np.empty(table.size, np.int64)
            taken = self._decode_block(table, number, x, words, taken)
            place = (number - self.base.take(table)).astype(np.int32)
            outside = np.flatnonzero(place == 0)
            if outside.size:
                escapes.append(outside + first)
            place += self.minimum.take(table)
            np.subtract(place, 1, out=k[first : first + block])
        return k, np.concatenate(escapes) if escapes else np.empty(0, np.int64), x, taken

    def _decode_block(
        self, table: np.ndarray, number: np.ndarray, x: np.ndarray, words: np.ndarray, taken: int
    ) -> int:
        """Decodes a block into `number`, changing the states x; returns the words taken so far."""
        lanes = x.size
        longest = int(self.count.take(table).max())
        by_cuts = longest <= _MOST_CUTS
        base = self.base.take(table)
        if by_cuts:
            cuts = [self._cuts[c].take(table) for c in range(longest)]
        else:
            bucket_base = table << (TOTAL_BITS - _BUCKET_BITS)
        pairs, pair = self._pairs, np.empty(lanes, np.complex128)
        slot, high = np.empty(lanes, np.uint16), np.empty(lanes, np.uint64)
        low, rest = pair.view(np.uint64).reshape(lanes, 2).T
        small = np.empty(lanes, bool)
        passed, step = np.empty(lanes, bool), np.empty(lanes, np.uint8)
        steps = passed.view(np.uint8)
        for a in range(0, table.size, lanes):
            b = min(a + lanes, table.size)
            if b - a < lanes:  # the last, incomplete row
                size = b - a
                x, slot, high, pair = x[:size], slot[:size], high[:size], pair[:size]
                low, rest, small = low[:size], rest[:size], small[:size]
                passed, step, steps = passed[:size], step[:size], steps[:size]
            where = number[a:b]
            np.copyto(slot, x, casting="unsafe")  # modulo 2^16
            if by_cuts:
                np.greater(slot, cuts[0][a:b], out=step.view(bool))
                for cut in cuts[1:]:
                    np.greater(slot, cut[a:b], out=passed)
                    np.add(step, steps, out=step)
                np.add(base[a:b], step, out=where)
            else:
                self._search(slot, bucket_base[a:b], where)
            # x = f (x >> 16) + x mod 2^16 - start
            pairs.take(where, out=pair, mode="clip")
            np.right_shift(x, _WORD, out=high)
            np.multiply(high, rest, out=high)
            np.add(high, low, out=high)
            np.subtract(x, high, out=x)
            np.less(x, _LEAST, out=small)
            thirsty = small.nonzero()[0]
            if thirsty.size:
                drawn = words[taken : taken + thirsty.size]
                if drawn.size < thirsty.size:
                    raise CorruptPayloadError("payload ends too early: its lanes need more words")
                taken += drawn.size
                x[thirsty] = x[thirsty] << _WORD | drawn
        return taken

    def _search(self, slot: np.ndarray, bucket_base: np.ndarray, where: np.ndarray) -> None:
        """Numbers of the intervals that hold the slots, by buckets of 2^8 slots."""
        np.add(bucket_base, slot >> np.uint16(_BUCKET_BITS), out=where)
        where[:] = self._bucket.take(where)
        beyond = slot - self.start.take(where) >= self.freq.take(where)
        late = beyond.nonzero()[0]
        while late.size:  # an interval that starts inside the bucket
            number = where[late] + 1
            where[late] = number
            late = late[slot[late] - self.start.take(number) >= self.freq.take(number)]


def lane_tables(bank: TableBank) -> LaneTables:
    """The bank's tables for lanes, made once."""
    found = _KNOWN.get(bank)
    if found is None:
        found = _KNOWN[bank] = LaneTables(bank)
    return found


_KNOWN: WeakKeyDictionary[TableBank, LaneTables] = WeakKeyDictionary()
