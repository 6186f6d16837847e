"""The dither: one counter-based random word per latent value (FORMAT.md, section 6)."""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.distributions.gaussian import DITHER_POINTS

DITHER_KEY = (0x7263_6F64_6563_2D64, 0x6974_6865_722D_7630)
"""Key words of Philox4x64-10, part of the format (the ASCII text "rcodec-dither-v0")."""

_BLOCK_WORDS = 1 << 20
_WORDS_AT_ONCE = 4
"""That Philox makes of one value of its counter."""


def dither_indices(height: int, width: int, channels: int, *, top: int = 0) -> np.ndarray:
    """Dither indices of a picture, the same for every picture of that width.

    Args:
      height: rows in all, or of a part of the picture.
      width, channels: of the latent.
      top: first row of the part.

    Returns:
      uint8 [height, width, channels], 0..63, drawn in raster order (row, column, channel).
    """
    source = np.random.Philox(key=np.array(DITHER_KEY, np.uint64))
    blocks, more = divmod(top * width * channels, _WORDS_AT_ONCE)
    source.advance(blocks)
    source.random_raw(more)
    flat = np.empty(height * width * channels, np.uint8)
    for first in range(0, flat.size, _BLOCK_WORDS):
        block = flat[first : first + _BLOCK_WORDS]
        block[:] = source.random_raw(block.size) >> np.uint64(58)
    return flat.reshape(height, width, channels)


def dither_values(indices: np.ndarray) -> np.ndarray:
    """g = (2 i + 1 - 64) / 128 of dither indices: float64 in (-1/2, 1/2), exact."""
    return (2.0 * indices.astype(np.float64) + 1.0 - DITHER_POINTS) / (2 * DITHER_POINTS)
