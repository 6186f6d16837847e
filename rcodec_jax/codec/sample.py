"""A sample of a large picture's cells: small blocks from all over it, side by side."""

from __future__ import annotations

import numpy as np

from rcodec_jax.levels import HYPER_STRIDE

SAMPLE_SIDE = 16
"""Cells of a block's side, a multiple of HYPER_STRIDE."""

_BLOCKS = 8  # along either side of the picture

Blocks = tuple[np.ndarray, np.ndarray]
"""First rows and first columns of blocks, int [n] and int [m]: n m blocks."""


def sample_blocks(height: int, width: int) -> Blocks | None:
    """Places of 8 x 8 blocks, evenly over a picture; None for one with too short a side.

    Args:
      height, width: of the picture in cells.

    Returns:
      Multiples of HYPER_STRIDE, so that hyper-latents can be taken along.
    """
    if min(height, width) < _BLOCKS * SAMPLE_SIDE:
        return None
    starts = [np.linspace(0, side - SAMPLE_SIDE, _BLOCKS) for side in (height, width)]
    rows, columns = (s.astype(int) // HYPER_STRIDE * HYPER_STRIDE for s in starts)
    return rows, columns


def take_blocks(x: np.ndarray, blocks: Blocks, side: int) -> np.ndarray:
    """The blocks of [h, w, ...] beside one another: [n side, m side, ...]."""
    rows, columns = ((s[:, None] + np.arange(side)).reshape(-1) for s in blocks)
    taken: np.ndarray = x[rows[:, None], columns]
    return taken
