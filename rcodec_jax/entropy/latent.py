"""The latent's part of a payload: one stream, or lanes where a large picture makes them worth it.

A model with a context network codes the latent in two halves, since the tables of the second
depend on the first. In one stream they follow each other; in lanes each half has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rcodec_jax.entropy.coder.lanepayload import decode_lanes, encode_lanes
from rcodec_jax.entropy.coder.rangecoder import RangeDecoder, RangeEncoder
from rcodec_jax.entropy.coder.sequential import decode_values, encode_values
from rcodec_jax.entropy.distributions.gaussian import DITHER_POINTS, GaussianTables
from rcodec_jax.errors import CorruptPayloadError

_BLOCK = 1 << 16  # symbols whose tables are looked up at a time
_LENGTH_BYTES = 4
_IN_LANES = 1  # first byte of a payload of two halves that are in lanes

Half = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sigma index and dither index, uint8 [n], and j, int [n]."""


def encode_latent(
    encoder: RangeEncoder,
    gaussian: GaussianTables,
    halves: Sequence[Callable[[], Half]],
    *,
    large: bool,
    lanes: int | None = None,
) -> bytes:
    """Codes j after what the encoder holds already, and ends the payload.

    Args:
      encoder: holds z.
      gaussian: the tables.
      halves: give one or two groups of values, |j| < 2^15, one after the other: both at a time
        take much memory.
      large: whether the payload may be in lanes and begins with a byte that tells.
      lanes: as for `encode_symbols`.

    Raises:
      RcodecError: what `halves` raise.
    """
    if large and lanes != 0:
        payload = _encode_in_lanes(encoder, gaussian, halves, lanes)
        if payload:
            return payload
    for half in halves:
        index, dither, j = half()
        for first in range(0, j.size, _BLOCK):
            block = slice(first, first + _BLOCK)
            tables, signs = gaussian.select(index[block], dither[block])
            encode_values(encoder, gaussian.bank, tables, j[block] * signs)
    return (b"\0" if large else b"") + encoder.finish()


def _encode_in_lanes(
    encoder: RangeEncoder,
    gaussian: GaussianTables,
    halves: Sequence[Callable[[], Half]],
    lanes: int | None,
) -> bytes:
    """The payload in lanes, or b"" if lanes are not worth it: then the encoder is as it was."""
    coded = b""
    for number in reversed(range(len(halves))):
        index, dither, values = halves[number]()
        stream = encoder if number == 0 else RangeEncoder()
        part = encode_lanes(stream, gaussian.lanes, _contexts(index, dither), values, lanes)
        if not part:
            return b""
        if number == 0 and coded:
            length = len(part).to_bytes(_LENGTH_BYTES, "little")
            part = bytes([_IN_LANES]) + length + part
        coded = part + coded
    return coded


class LatentReader:
    """Reads what `encode_latent` wrote, half by half.

    Args:
      payload: all of it, z in front.
      gaussian: the tables.
      large: as for the encoder.
      halves: 1 or 2, how many there are.

    Attributes:
      stream: the decoder of z, to be read before the first half.
      start: where in the payload its offsets count from.

    Raises:
      CorruptPayloadError: damage.
    """

    def __init__(self, payload: bytes, gaussian: GaussianTables, *, large: bool, halves: int):
        self._gaussian = gaussian
        self._left = halves
        self._parts: list[tuple[int, bytes]] = []  # those in lanes, and where they begin
        if large and not payload:
            raise CorruptPayloadError("payload is empty", offset=0)
        if large and payload[0]:
            self._parts = [(0, payload)] if halves == 1 else _two(payload)
        self.start, data = self._parts[0] if self._parts else (0, payload)
        self.stream = RangeDecoder(data[1:] if large else data, origin=int(large))

    def read(self, index: np.ndarray, dither: np.ndarray) -> np.ndarray:
        """The next half: int16 [n].

        Args:
          index, dither: uint8 [n], sigma and dither index of each value.

        Raises:
          CorruptPayloadError: damage.
        """
        self._left -= 1
        if self._parts:
            start, data = self._parts.pop(0)
            contexts = _contexts(index, dither)
            try:
                j = decode_lanes(self.stream, data, self._gaussian.lanes, contexts)
            except CorruptPayloadError as error:
                raise error.in_section(start) from error
            if self._parts:
                start, data = self._parts[0]
                self.stream = RangeDecoder(data[1:], origin=1)
            return j
        j = np.empty(index.size, np.int16)
        for first in range(0, j.size, _BLOCK):
            block = slice(first, first + _BLOCK)
            tables, signs = self._gaussian.select(index[block], dither[block])
            decode_values(self.stream, self._gaussian.bank, tables, j[block])
            j[block] *= signs.astype(np.int16)
        if not self._left:
            self.stream.finish()
        return j


def _two(payload: bytes) -> list[tuple[int, bytes]]:
    """Both halves in lanes, each with where it begins.

    Raises:
      CorruptPayloadError: another first byte, or a length that leaves one of them nothing.
    """
    begin = 1 + _LENGTH_BYTES
    end = begin + int.from_bytes(payload[1:begin], "little")
    if payload[0] != _IN_LANES or not begin < end < len(payload):
        raise CorruptPayloadError("payload: no two halves in lanes", offset=0)
    halves = [(begin, payload[begin:end]), (end, payload[end:])]
    if not all(data[0] for _, data in halves):
        raise CorruptPayloadError("payload: a half of no lanes", offset=begin)
    return halves


def _contexts(index: np.ndarray, dither: np.ndarray) -> np.ndarray:
    """What tells the table of each symbol: 64 sigma index + dither index, uint16 [n]."""
    contexts = index * np.uint16(DITHER_POINTS)
    contexts |= dither
    return contexts
