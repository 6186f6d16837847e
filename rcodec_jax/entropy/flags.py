"""Adaptive binary flags through the range coder, for the small maps of a file (FORMAT.md, 5)."""

from __future__ import annotations

from collections.abc import Sequence

from rcodec_jax.entropy.coder.rangecoder import HALF, TOTAL, RangeDecoder, RangeEncoder

INCREMENT = 16
_COUNT_LIMIT = 1 << 20


class Counts:
    """How often each context's flag was false and true; the source of its probability.

    Args:
      contexts: their number.
      mostly_false: those that begin as if they had been false 64 times.
    """

    def __init__(self, contexts: int, mostly_false: Sequence[int] = ()) -> None:
        self.false = [INCREMENT // 2] * contexts
        self.true = [INCREMENT // 2] * contexts
        for context in mostly_false:
            self.false[context] = 64 * INCREMENT

    def freq_true(self, context: int) -> int:
        """Frequency of true, of 2^16."""
        true = self.true[context]
        freq = (true << 16) // (true + self.false[context])
        return min(max(freq, 1), TOTAL - 1)

    def update(self, context: int, flag: bool) -> None:
        """Counts a flag."""
        counts = self.true if flag else self.false
        counts[context] += INCREMENT
        if self.true[context] + self.false[context] >= _COUNT_LIMIT:
            self.true[context] = (self.true[context] + 1) >> 1
            self.false[context] = (self.false[context] + 1) >> 1


class FlagWriter:
    """Codes the flags and raw bits that it is told."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._starts: list[int] = []
        self._freqs: list[int] = []

    def raw(self, value: int, bits: int) -> int:
        """Codes `bits` bits of a value, the highest first; returns the value."""
        for bit in reversed(range(bits)):
            self._starts.append((value >> bit & 1) * HALF)
            self._freqs.append(HALF)
        return value

    def flag(self, context: int, truth: bool) -> bool:
        """Codes a flag; returns it."""
        freq = self._counts.freq_true(context)
        self._counts.update(context, truth)
        self._starts.append(0 if truth else freq)
        self._freqs.append(freq if truth else TOTAL - freq)
        return truth

    def finish(self) -> bytes:
        """The stream."""
        encoder = RangeEncoder()
        encoder.encode(self._starts, self._freqs)
        return encoder.finish()


class FlagReader:
    """Decodes what a `FlagWriter` wrote, by the same calls; their values count for nothing."""

    def __init__(self, data: bytes, counts: Counts) -> None:
        self._counts = counts
        self._decoder = RangeDecoder(data)

    def raw(self, value: int, bits: int) -> int:
        """The value of the next `bits` bits."""
        value = 0
        for _ in range(bits):
            value = value << 1 | (1 - self._decoder.decode_bit(HALF))
        return value

    def flag(self, context: int, truth: bool) -> bool:
        """The next flag."""
        del truth
        flag = bool(self._decoder.decode_bit(self._counts.freq_true(context)))
        self._counts.update(context, flag)
        return flag

    def finish(self) -> None:
        """Ends reading.

        Raises:
          CorruptPayloadError: something is left, or was never written.
        """
        self._decoder.finish()
