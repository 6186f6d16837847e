"""Symbols of a bank of tables through the scalar range coder."""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.coder.rangecoder import RangeDecoder, RangeEncoder
from rcodec_jax.entropy.coder.tables import TableBank

_BLOCK = 1 << 16  # symbols turned into Python integers at a time


def encode_values(
    encoder: RangeEncoder, bank: TableBank, tables: np.ndarray, k: np.ndarray
) -> None:
    """Appends values k int [n], each under its table int [n], escapes written out.

    Raises:
      RcodecError: |k| >= 2^15.
    """
    for first in range(0, k.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        encoder.encode(*bank.intervals(tables[block], k[block]))


def decode_values(
    decoder: RangeDecoder, bank: TableBank, tables: np.ndarray, out: np.ndarray
) -> None:
    """Decodes into out int16 or int32 [n] what `encode_values` wrote.

    Raises:
      CorruptPayloadError: the stream is damaged.
    """
    for first in range(0, out.size, _BLOCK):
        block = tables[first : first + _BLOCK]
        symbols, escapes = decoder.decode(bank.cumulative, block.tolist())
        out[first : first + _BLOCK] = bank.values(block, symbols, escapes)
