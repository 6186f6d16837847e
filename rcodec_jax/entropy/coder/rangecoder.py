"""Scalar range coder: 48-bit window, 16-bit totals, 16-bit renormalisation, deferred carry.

A symbol is an interval `[start, start + freq)` of 2^16. The width of the window stays in
[2^32, 2^48], so every symbol costs at most one renormalisation and the truncation of
`width >> 16` loses less than 2.2e-5 bit. Everything is Python integers. The exact rules, which
are part of the file format, are in bitstream/FORMAT.md.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from rcodec_jax.errors import CorruptPayloadError

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
HALF = TOTAL >> 1
WINDOW_BITS = 48
MAX_ESCAPE_PREFIX = 17
"""Longest run of zeros of an Exp-Golomb code: |k| < 2^15 never needs more."""

_WINDOW = 1 << WINDOW_BITS
_WINDOW_MASK = _WINDOW - 1
_LOW_MASK = (1 << 32) - 1
_MIN_WIDTH = 1 << 32


def _shortest_end(low: int, width: int) -> tuple[int, int]:
    """Fewest bytes (0, 1 or 2) of the window that name a value in [low, low + width).

    Returns:
      (byte count, value); the value is the least multiple of 2^(48 - 8 count) not below low. Both
      depend on low modulo 2^48 only, which is all a decoder knows.
    """
    for count in (0, 1):
        unit = 1 << (WINDOW_BITS - 8 * count)
        value = -(-low // unit) * unit
        if value < low + width:
            return count, value
    return 2, -(-low >> 32) << 32  # width >= 2^32: a multiple of 2^32 always lies inside


def _open_end(low: int, width: int) -> tuple[int, int]:
    """Like `_shortest_end`, 0 to 3 bytes, for a stream that other data follow at once.

    The whole unit lies in the window, so any bytes may come next.
    """
    for count in (0, 1, 2):
        unit = 1 << (WINDOW_BITS - 8 * count)
        value = -(-low // unit) * unit
        if value + unit <= low + width:
            return count, value
    return 3, -(-low >> 24) << 24  # width >= 2^32 holds two units of 2^24


class RangeEncoder:
    """Turns intervals into bytes; feed any number of blocks, then call `finish` once."""

    def __init__(self) -> None:
        self._low = 0
        self._width = _WINDOW
        self._words: list[int] = []  # 16 bits each, bit 16 is a carry not yet passed on

    def encode(self, starts: Iterable[int], freqs: Iterable[int]) -> None:
        """Appends symbols.

        Args:
          starts, freqs: Python integers with 0 <= start, 1 <= freq, start + freq <= 2^16.
        """
        low, width = self._low, self._width
        push = self._words.append
        for start, freq in zip(starts, freqs, strict=True):
            step = width >> 16
            low += step * start
            width = step * freq
            if width < _MIN_WIDTH:
                push(low >> 32)
                low = (low & _LOW_MASK) << 16
                width <<= 16
        self._low, self._width = low, width

    def finish(self) -> bytes:
        """Ends the stream.

        Returns:
          all words written so far and the shortest end of the window.
        """
        return self._close(*_shortest_end(self._low, self._width))

    def finish_open(self) -> bytes:
        """Ends the stream so that other data can follow: `RangeDecoder.end_open` finds the end."""
        return self._close(*_open_end(self._low, self._width))

    def _close(self, count: int, value: int) -> bytes:
        carry = value >> WINDOW_BITS
        words = self._words
        for index in range(len(words) - 1, -1, -1):
            word = words[index] + carry
            words[index] = word & 0xFFFF
            carry = word >> 16
        tail = (value & _WINDOW_MASK).to_bytes(WINDOW_BITS // 8, "big")[:count]
        return np.array(words, ">u2").tobytes() + tail


class RangeDecoder:
    """Reads what RangeEncoder wrote, with the same intervals in the same order.

    It never reads more than three words past the end: a stream that would need more cannot have
    been written by the encoder, so damage ends the decoding early.
    """

    def __init__(self, data: bytes, *, origin: int = 0) -> None:
        """Starts reading; `origin` is added to the offsets that errors name."""
        self._length = len(data)
        self._origin = origin
        self._words = array("H", data + bytes(6 + (len(data) & 1)))
        if sys.byteorder == "little":
            self._words.byteswap()
        first, second, third = self._words[:3]
        self._code = first << 32 | second << 16 | third  # value of the stream minus low
        self._width = _WINDOW
        self._next = 3

    def decode(
        self, cumulative: Sequence[Sequence[int]], tables: Iterable[int]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Decodes one symbol per table.

        Args:
          cumulative: per table, ascending starts of its symbols and 2^16 at the end; symbol 0 is
            the escape.
          tables: which table each symbol uses.

        Returns:
          symbols: one index per table, **counted from 1** (1 is the escape).
          escapes: (position, value u) of every escape, u as FORMAT.md has it.

        Raises:
          CorruptPayloadError: the stream ends too early or holds no valid code.
        """
        code, width, position = self._code, self._width, self._next
        words = self._words
        find = bisect_right
        symbols: list[int] = []
        push = symbols.append
        escapes: list[tuple[int, int]] = []
        try:
            for table in tables:
                cuts = cumulative[table]
                step = width >> 16
                symbol = find(cuts, code // step)
                start = cuts[symbol - 1]
                width = step * (cuts[symbol] - start)
                code -= step * start
                if width < _MIN_WIDTH:
                    code = code << 16 | words[position]
                    position += 1
                    width <<= 16
                push(symbol)
                if symbol == 1:
                    self._code, self._width, self._next = code, width, position
                    escapes.append((len(symbols) - 1, self.decode_exp_golomb()))
                    code, width, position = self._code, self._width, self._next
        except IndexError:
            self._next = position
            raise self._corrupt() from None
        self._code, self._width, self._next = code, width, position
        return symbols, escapes

    def decode_bit(self, freq_one: int) -> int:
        """Decodes a bit whose value 1 has the interval [0, freq_one), 1 <= freq_one < 2^16.

        Raises:
          CorruptPayloadError: as for `decode`.
        """
        step = self._width >> 16
        cut = step * freq_one
        if self._code < cut:
            self._narrow(0, cut)
            return 1
        if self._code >= step << 16:
            raise self._corrupt()
        self._narrow(cut, (step << 16) - cut)
        return 0

    def decode_uniform(self, bits: int) -> int:
        """Decodes a number of 1..16 bits, all values equally likely.

        Raises:
          CorruptPayloadError: as for `decode`.
        """
        step = (self._width >> TOTAL_BITS) << (TOTAL_BITS - bits)
        value = self._code // step
        if value >> bits:
            raise self._corrupt()
        self._narrow(step * value, step)
        return value

    def _narrow(self, skipped: int, width: int) -> None:
        self._code -= skipped
        self._width = width
        if width < _MIN_WIDTH:
            if self._next >= len(self._words):
                raise self._corrupt()
            self._code = self._code << 16 | self._words[self._next]
            self._next += 1
            self._width <<= 16

    def decode_exp_golomb(self) -> int:
        """Decodes a number 0 .. 2^18 - 2 written by `raw_bits`.

        Raises:
          CorruptPayloadError: as for `decode`, or a larger number.
        """
        prefix = 0
        while self.decode_bit(HALF):  # raw bit 0 has the lower half, see raw_bits
            prefix += 1
            if prefix > MAX_ESCAPE_PREFIX:
                raise self._corrupt()
        value = 1
        for _ in range(prefix):
            value = value << 1 | (1 - self.decode_bit(HALF))
        return value - 1

    def finish(self) -> None:
        """Checks that the encoder would have ended exactly where the data end.

        Raises:
          CorruptPayloadError: bytes are missing, left over, or not the ones the encoder writes.
        """
        window, low = self._window()
        count, value = _shortest_end(low, self._width)
        expected = 2 * (self._next - 3) + count
        if expected != self._length:
            raise CorruptPayloadError(
                f"payload should end after {expected} bytes but has {self._length}",
                offset=self._origin + min(expected, self._length),
            )
        if value & _WINDOW_MASK != window:
            raise CorruptPayloadError(
                "payload does not end as its symbols require",
                offset=self._origin + self._length - count,
            )

    def end_open(self) -> int:
        """Number of bytes of a stream that `finish_open` ended.

        Raises:
          CorruptPayloadError: the data are shorter, or it does not end the way the encoder ends.
        """
        window, low = self._window()
        count, value = _open_end(low, self._width)
        unused = WINDOW_BITS - 8 * count
        end = 2 * (self._next - 3) + count
        if end > self._length:
            raise self._corrupt()
        if (value & _WINDOW_MASK) >> unused != window >> unused:
            raise CorruptPayloadError(
                "payload does not end as its symbols require", offset=self._origin + end
            )
        return end

    def _window(self) -> tuple[int, int]:
        """The last three words read, and the encoder's `low` modulo 2^48."""
        first, second, third = self._words[self._next - 3 : self._next]
        window = first << 32 | second << 16 | third
        return window, (window - self._code) & _WINDOW_MASK

    def _corrupt(self) -> CorruptPayloadError:
        return CorruptPayloadError(
            "payload ends too early or holds an impossible code",
            offset=self._origin + min(2 * self._next, self._length),
        )


def raw_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exp-Golomb codes (order 0) as raw bits, each bit one symbol of probability 1/2.

    Args:
      values: int64 [n], 0 <= u.

    Returns:
      starts: int64, the bits of all codes one after another (bit b is the interval
        [b 2^15, (b + 1) 2^15)).
      lengths: int64 [n], bits of each code: 2 bit_length(u + 1) - 1.
    """
    plus_one = values.astype(np.int64) + 1
    # frexp is exact on integers below 2^53: its exponent is the bit length
    lengths = 2 * np.frexp(plus_one.astype(np.float64))[1].astype(np.int64) - 1
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    place = np.repeat(ends, lengths) - 1 - np.arange(total)  # weight of each bit
    return (np.repeat(plus_one, lengths) >> place & 1) * HALF, lengths
