"""Integers of a picture to an entropy coded payload and back."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rcodec_jax.entropy.coder.rangecoder import RangeEncoder
from rcodec_jax.entropy.coder.sequential import decode_values, encode_values
from rcodec_jax.entropy.coder.tables import check_range
from rcodec_jax.entropy.integer.part import IntegerPart, Prior
from rcodec_jax.entropy.latent import Half, LatentReader, encode_latent
from rcodec_jax.errors import CorruptPayloadError, RcodecError
from rcodec_jax.levels import Levels
from rcodec_jax.limits import Limits

LANES_FROM = 300_000
"""Values of j from which a payload may be in lanes; part of the format."""


@dataclass(frozen=True, eq=False)
class Symbols:
    """What a payload holds.

    Attributes:
      z: int32 [hz, wz, Cz], hyper-latents.
      j: int16 [h, w, C], quantised latent relative to the prior mean.
      prior: mean and log2 sigma that z, the levels and the latent's first half give.
    """

    z: np.ndarray
    j: np.ndarray
    prior: Prior


def encode_symbols(
    part: IntegerPart,
    z: np.ndarray,
    j: np.ndarray,
    levels: Levels,
    prior: Prior | None = None,
    *,
    lanes: int | None = None,
    lanes_from: int = LANES_FROM,
) -> bytes:
    """Codes z and j: in one stream, or a large picture in lanes where they are worth it.

    Args:
      part: the model's integer part.
      z: int [hz, wz, Cz], |z| < 2^15.
      j: int [h, w, C], |j| < 2^15; 0 where `part.coded` says no.
      levels: of the picture.
      prior: what `part.predict` and `part.refine` give for them, if known already.
      lanes: lanes of a large picture, a multiple of 16, 0 for none; by default a good number.
      lanes_from: values of j that make a picture large; anything but the default is for tests.

    Raises:
      RcodecError: a shape is wrong, or a symbol is outside its range.
    """
    levels = part.check_levels(levels)
    z, j = np.asarray(z), np.asarray(j)
    height, width = levels.level_map.shape
    expected_z = (*part.hyper_size(height, width), part.hyper_channels)
    if z.shape != expected_z:
        raise RcodecError(f"z: expected shape {expected_z}, got {z.shape}")
    if j.shape != (height, width, part.latent_channels):
        raise RcodecError(
            f"j: expected shape {(height, width, part.latent_channels)}, got {j.shape}"
        )
    if prior is None:
        prior = part.refine(part.predict(z, levels), j, levels)
    encoder = RangeEncoder()
    symbols, tables = part.hyper_symbols(z, levels)
    encode_values(encoder, part.hyper_tables.bank, tables, symbols)

    def group(half: np.ndarray) -> Half:
        index, dither = part.contexts(half, prior, levels)
        values = check_range(j[half]).astype(np.int16, copy=False)
        coded = part.coded(index, dither)
        if np.any(values[~coded]):
            raise RcodecError("j: expected 0 where the model does not code it")
        return index[coded], dither[coded], values[coded]

    groups = [functools.partial(group, half) for half in part.halves(height, width)]
    large = j.size >= lanes_from
    return encode_latent(encoder, part.gaussian, groups, large=large, lanes=lanes)


def decode_symbols(
    part: IntegerPart,
    payload: bytes,
    height_cells: int,
    width_cells: int,
    levels: Levels,
    *,
    limits: Limits | None = None,
    lanes_from: int = LANES_FROM,
) -> Symbols:
    """Decodes what `encode_symbols` wrote.

    Args:
      part: the integer part the payload was made with.
      payload: the coded bytes, all of them.
      height_cells, width_cells: h and w, from the picture's size.
      levels: of the picture.
      limits: what to refuse before anything is allocated.
      lanes_from: as the encoder had it.

    Raises:
      LimitError: the picture or payload is above the limits.
      CorruptPayloadError: the payload is not one that `encode_symbols` writes.
      RcodecError: the levels do not fit.
    """
    limits = limits or Limits()
    limits.check_cells(height_cells, width_cells)
    limits.check_payload(len(payload))
    levels = part.check_levels(levels)
    if levels.level_map.shape != (height_cells, width_cells):
        raise RcodecError(
            f"level map: expected {(height_cells, width_cells)}, got {levels.level_map.shape}"
        )
    large = height_cells * width_cells * part.latent_channels >= lanes_from
    halves = part.halves(height_cells, width_cells)
    reader = LatentReader(payload, part.gaussian, large=large, halves=len(halves))

    def read(tables: np.ndarray) -> np.ndarray:
        out = np.empty(tables.size, np.int32)
        decode_values(reader.stream, part.hyper_tables.bank, tables, out)
        return out

    try:
        z = part.read_hyper(levels, read)
    except CorruptPayloadError as error:
        raise error.in_section(reader.start) from error
    prior = part.predict(z, levels)
    j = np.zeros((height_cells, width_cells, part.latent_channels), np.int16)
    for number, half in enumerate(halves):
        if number:
            prior = part.refine(prior, j, levels)
        index, dither = part.contexts(half, prior, levels)
        coded = part.coded(index, dither)
        values = np.zeros(coded.size, np.int16)
        values[coded] = reader.read(index[coded], dither[coded])
        j[half] = values
    return Symbols(z, j, prior)
