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
    return _starts(0, height, height), _starts(0, width, width)


def blocks_around(inside: np.ndarray) -> Blocks:
    """Places of up to 8 x 8 blocks, evenly over the smallest box around some cells.

    Args:
      inside: bool [h, w], at least one of them true, with sides of at least a block.
    """
    found = [np.flatnonzero(inside.any(axis)) for axis in (1, 0)]
    rows, columns = (
        _starts(int(cells[0]), int(cells[-1]) + 1, side)
        for cells, side in zip(found, inside.shape, strict=True)
    )
    return rows, columns


def _starts(first: int, end: int, side: int) -> np.ndarray:
    """Where blocks begin that lie evenly over the cells first..end - 1 of a side."""
    count = min(_BLOCKS, -(-(end - first) // SAMPLE_SIDE))
    starts = np.linspace(first, max(end - SAMPLE_SIDE, first), count)
    aligned: np.ndarray = starts.astype(int) // HYPER_STRIDE * HYPER_STRIDE
    return np.minimum(aligned, (side - SAMPLE_SIDE) // HYPER_STRIDE * HYPER_STRIDE)


def take_blocks(x: np.ndarray, blocks: Blocks, side: int) -> np.ndarray:
    """The blocks of [h, w, ...] beside one another: [n side, m side, ...], of what h and w have."""
    rows, columns = (
        (starts[:, None] + np.arange(min(side, length))).reshape(-1)
        for starts, length in zip(blocks, x.shape, strict=False)
    )
    taken: np.ndarray = x[rows[:, None], columns]
    return taken
