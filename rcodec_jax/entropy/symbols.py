"""Integers of a picture to an entropy coded payload and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rcodec_jax.entropy.dither import dither_indices
from rcodec_jax.entropy.gaussian import DITHER_POINTS, GaussianTables
from rcodec_jax.entropy.lanepayload import decode_lanes, encode_lanes
from rcodec_jax.entropy.limits import Limits
from rcodec_jax.entropy.part import IntegerPart, Prior
from rcodec_jax.entropy.rangecoder import RangeDecoder, RangeEncoder
from rcodec_jax.entropy.serial import decode_values, encode_values
from rcodec_jax.entropy.tables import check_range
from rcodec_jax.errors import CorruptPayloadError, RcodecError

LANES_FROM = 300_000
"""Values of j from which a payload may be in lanes; part of the format."""

_BLOCK = 1 << 16  # symbols whose tables are looked up at a time


@dataclass(frozen=True, eq=False)
class Symbols:
    """What a payload holds.

    Attributes:
      z: int32 [hz, wz, Cz], hyper-latents.
      j: int32 [h, w, C], quantised latent relative to the prior mean.
      prior: mean and log2 sigma that z and the levels give.
    """

    z: np.ndarray
    j: np.ndarray
    prior: Prior


def encode_symbols(
    part: IntegerPart,
    z: np.ndarray,
    j: np.ndarray,
    nodes: np.ndarray,
    level_map: np.ndarray,
    prior: Prior | None = None,
    *,
    lanes: int | None = None,
    lanes_from: int = LANES_FROM,
) -> bytes:
    """Codes z and j: in one stream, or a large picture in lanes where they are worth it.

    Args:
      part: the model's integer part.
      z: int [hz, wz, Cz], |z| < 2^15.
      j: int [h, w, C], |j| < 2^15.
      nodes: int [L], ascending; level_map: uint8 [h, w], 0..L-1.
      prior: what `part.predict(z, nodes, level_map)` gives, if known already.
      lanes: lanes of a large picture, a multiple of 16, 0 for none; by default a good number.
      lanes_from: values of j that make a picture large; anything but the default is for tests.

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
    prior = prior or part.predict(z, nodes, level_map)
    index = part.sigma_index(prior, nodes, level_map).reshape(-1)
    dither = dither_indices(height, width, part.latent_channels).reshape(-1)
    encoder = RangeEncoder()
    tables = part.hyper_tables.select(part.cell_classes(nodes, level_map))
    encode_values(encoder, part.hyper_tables.bank, tables.reshape(-1), z.reshape(-1))
    large = j.size >= lanes_from
    return encode_latent(encoder, part.gaussian, index, dither, j, large=large, lanes=lanes)


def decode_symbols(
    part: IntegerPart,
    payload: bytes,
    height_cells: int,
    width_cells: int,
    nodes: np.ndarray,
    level_map: np.ndarray,
    *,
    limits: Limits | None = None,
    lanes_from: int = LANES_FROM,
) -> Symbols:
    """Decodes what `encode_symbols` wrote.

    Args:
      part: the integer part the payload was made with.
      payload: the coded bytes, all of them.
      height_cells, width_cells: h and w, from the picture's size.
      nodes: int [L], ascending; level_map: uint8 [h, w], 0..L-1.
      limits: what to refuse before anything is allocated.
      lanes_from: as the encoder had it.

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
    large = height_cells * width_cells * part.latent_channels >= lanes_from
    if large and not payload:
        raise CorruptPayloadError("payload is empty", offset=0)
    decoder = RangeDecoder(payload[1:] if large else payload, origin=int(large))
    tables = part.hyper_tables.select(part.cell_classes(nodes, level_map))
    z = np.empty(tables.shape, np.int32)
    decode_values(decoder, part.hyper_tables.bank, tables.reshape(-1), z.reshape(-1))
    prior = part.predict(z, nodes, level_map)
    index = part.sigma_index(prior, nodes, level_map)
    dither = dither_indices(height_cells, width_cells, part.latent_channels).reshape(-1)
    j = decode_latent(decoder, payload, part.gaussian, index.reshape(-1), dither, large=large)
    return Symbols(z, j.reshape(index.shape), prior)


def encode_latent(
    encoder: RangeEncoder,
    gaussian: GaussianTables,
    index: np.ndarray,
    dither: np.ndarray,
    j: np.ndarray,
    *,
    large: bool,
    lanes: int | None = None,
) -> bytes:
    """Codes j after what the encoder holds already, and ends the payload.

    Args:
      encoder: holds z.
      gaussian: the tables.
      index, dither: uint8 [n], sigma and dither index of each value.
      j: int [n] or any shape of n values.
      large: whether the payload may be in lanes and begins with a byte that tells.
      lanes: as for `encode_symbols`.

    Raises:
      RcodecError: |j| >= 2^15.
    """
    flat = check_range(j).reshape(-1)
    if large and lanes != 0:
        values, contexts = flat.astype(np.int32, copy=False), _contexts(index, dither)
        payload = encode_lanes(encoder, gaussian.lanes, contexts, values, lanes)
        if payload:
            return payload
    for first in range(0, flat.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        tables, signs = gaussian.select(index[block], dither[block])
        encode_values(encoder, gaussian.bank, tables, flat[block] * signs)
    return (b"\0" if large else b"") + encoder.finish()


def decode_latent(
    decoder: RangeDecoder,
    payload: bytes,
    gaussian: GaussianTables,
    index: np.ndarray,
    dither: np.ndarray,
    *,
    large: bool,
) -> np.ndarray:
    """Decodes what `encode_latent` wrote: int32 [n].

    Args:
      decoder: of the payload, after its first byte if it is large; z has been read.
      payload: all of it.
      gaussian, index, dither, large: as for the encoder.

    Raises:
      CorruptPayloadError: damage.
    """
    if large and payload[0]:
        contexts = _contexts(index, dither)
        return decode_lanes(decoder, payload, gaussian.lanes, contexts)
    j = np.empty(index.size, np.int32)
    for first in range(0, j.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        tables, signs = gaussian.select(index[block], dither[block])
        decode_values(decoder, gaussian.bank, tables, j[block])
        j[block] *= signs.astype(np.int32)
    decoder.finish()
    return j


def _contexts(index: np.ndarray, dither: np.ndarray) -> np.ndarray:
    """What tells the table of each symbol: 64 sigma index + dither index, uint16 [n]."""
    contexts = index * np.uint16(DITHER_POINTS)
    contexts |= dither
    return contexts
