"""Where the bits of a file went. Needs no JAX."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from rcodec_jax.bitstream import Container
from rcodec_jax.codec.symbols import find_integer_part, symbols_of


class Bits(NamedTuple):
    """Ideal bits of a file's symbols, -log2 of their probability in the model's tables.

    Attributes:
      cells: float64 [h,w], of each latent cell, hyper-latents' bits shared by the cells they cover.
      hyper: of all hyper-latents.
      latent: of all latents.
    """

    cells: np.ndarray
    hyper: float
    latent: float


def bits_of(container: Container, model: str | os.PathLike[str] | None = None) -> Bits:
    """Where the bits of a file went, read back from the file alone.

    Args:
      container: of the file.
      model: bundle folder, None to find the integer part by the digest in the file.

    Raises:
      BitstreamError: a damaged file, or one of a model that is not here.
    """
    part = find_integer_part(container.header, model)
    levels, symbols = symbols_of(container, part)
    bits_z, bits_y = part.bits(symbols.z, symbols.j, levels, prior=symbols.prior)
    cells = cell_bits(bits_z, bits_y, part.hyper_stride)
    return Bits(cells, float(bits_z.sum()), float(bits_y.sum()))


def cell_bits(bits_z: np.ndarray, bits_y: np.ndarray, stride: int) -> np.ndarray:
    """Bits of each latent cell, those of a hyper-latent shared by the cells that it covers.

    Args:
      bits_z: float [hz,wz,Cz], bits of the hyper-latents.
      bits_y: float [h,w,C], bits of the latents, h and w at most hz and wz times `stride`.
      stride: latent cells per side of a hyper-latent.

    Returns:
      float64 [h,w]; its sum is that of both arguments.
    """
    height, width = bits_y.shape[:2]
    rows, columns = np.arange(height) // stride, np.arange(width) // stride
    shares = np.bincount(rows)[:, None] * np.bincount(columns)[None, :]
    spread = bits_z.sum(-1)[: rows[-1] + 1, : columns[-1] + 1] / shares
    return bits_y.sum(-1) + spread[rows[:, None], columns[None, :]]
