"""Integers of a picture to an entropy coded payload and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rcodec_jax.entropy.dither import dither_indices
from rcodec_jax.entropy.limits import Limits
from rcodec_jax.entropy.part import IntegerPart, Prior
from rcodec_jax.entropy.rangecoder import RangeDecoder, RangeEncoder
from rcodec_jax.entropy.tables import TableBank
from rcodec_jax.errors import RcodecError

_BLOCK = 1 << 16  # symbols turned into Python integers at a time


@dataclass(frozen=True, eq=False)
class Symbols:
    """What a payload holds.

    Attributes:
      z: int32 [hz, wz, Cz], hyper-latents.
      j: int32 [h, w, C], quantised latent relative to the prior mean.
      prior: mean and log2 sigma that z and the levels give.
      sigma_index: uint8 [h, w, C], level of s sigma of each j.
    """

    z: np.ndarray
    j: np.ndarray
    prior: Prior
    sigma_index: np.ndarray


def encode_symbols(
    part: IntegerPart,
    z: np.ndarray,
    j: np.ndarray,
    nodes: np.ndarray,
    level_map: np.ndarray,
    prior: Prior | None = None,
) -> bytes:
    """Codes z, then j, each in raster order (row, column, channel), in one stream.

    Args:
      part: the model's integer part.
      z: int [hz, wz, Cz], |z| < 2^15.
      j: int [h, w, C], |j| < 2^15.
      nodes: int [L], ascending; level_map: uint8 [h, w], 0..L-1.
      prior: what `part.predict(z, nodes, level_map)` gives, if known already.

    Raises:
      RcodecError: a shape is wrong, or a symbol is outside its range.
    """
    nodes, level_map = part.check_levels(nodes, level_map)
    z, j = np.asarray(z), np.asarray(j)
    height, width = level_map.shape
    expected_z = (*part.hyper_size(height, width), part.hyper_channels)
    if z.shape != expected_z:
        raise RcodecError(f"z: expected shape {expected_z}, got {z.shape}")
    if j.shape != (height, width, part.latent_channels):
        raise RcodecError(
            f"j: expected shape {(height, width, part.latent_channels)}, got {j.shape}"
        )
    encoder = RangeEncoder()
    tables = part.hyper_tables.select(part.cell_classes(nodes, level_map))
    _encode(encoder, part.hyper_tables.bank, tables.reshape(-1), z.reshape(-1))
    prior = prior or part.predict(z, nodes, level_map)
    index = part.sigma_index(prior, nodes, level_map).reshape(-1)
    dither = dither_indices(height, width, part.latent_channels).reshape(-1)
    flat = j.reshape(-1)
    for first in range(0, flat.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        tables, signs = part.gaussian.select(index[block], dither[block])
        _encode(encoder, part.gaussian.bank, tables, flat[block] * signs)
    return encoder.finish()


def decode_symbols(
    part: IntegerPart,
    payload: bytes,
    height_cells: int,
    width_cells: int,
    nodes: np.ndarray,
    level_map: np.ndarray,
    *,
    limits: Limits | None = None,
) -> Symbols:
    """Decodes what `encode_symbols` wrote.

    Args:
      part: the integer part the payload was made with.
      payload: the coded bytes, all of them.
      height_cells, width_cells: h and w, from the picture's size.
      nodes: int [L], ascending; level_map: uint8 [h, w], 0..L-1.
      limits: what to refuse before anything is allocated.

    Raises:
      LimitError: the picture or payload is above the limits.
      CorruptPayloadError: the payload is not one that `encode_symbols` writes.
      RcodecError: nodes or level map do not fit.
    """
    limits = limits or Limits()
    limits.check_cells(height_cells, width_cells)
    limits.check_payload(len(payload))
    nodes, level_map = part.check_levels(nodes, level_map)
    if level_map.shape != (height_cells, width_cells):
        raise RcodecError(
            f"level map: expected {(height_cells, width_cells)}, got {level_map.shape}"
        )
    decoder = RangeDecoder(payload)
    tables = part.hyper_tables.select(part.cell_classes(nodes, level_map))
    z = np.empty(tables.shape, np.int32)
    _decode(decoder, part.hyper_tables.bank, tables.reshape(-1), z.reshape(-1))
    prior = part.predict(z, nodes, level_map)
    index = part.sigma_index(prior, nodes, level_map)
    j = np.empty(index.shape, np.int32)
    dither = dither_indices(height_cells, width_cells, part.latent_channels).reshape(-1)
    flat_index, flat = index.reshape(-1), j.reshape(-1)
    for first in range(0, flat.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        tables, signs = part.gaussian.select(flat_index[block], dither[block])
        _decode(decoder, part.gaussian.bank, tables, flat[block])
        flat[block] *= signs.astype(np.int32)
    decoder.finish()
    return Symbols(z, j, prior, index)


def _encode(encoder: RangeEncoder, bank: TableBank, tables: np.ndarray, k: np.ndarray) -> None:
    for first in range(0, k.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        encoder.encode(*bank.intervals(tables[block], k[block]))


def _decode(decoder: RangeDecoder, bank: TableBank, tables: np.ndarray, out: np.ndarray) -> None:
    for first in range(0, out.size, _BLOCK):
        block = tables[first : first + _BLOCK]
        symbols, escapes = decoder.decode(bank.cumulative, block.tolist())
        out[first : first + _BLOCK] = bank.values(block, symbols, escapes)
