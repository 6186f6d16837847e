"""The order in which hyper-latents and latents are coded, and what each sees of those before it.

A leaf module: the order belongs to the file format and to training alike.
"""

from __future__ import annotations

import functools

import numpy as np

STRIDES = (8, 4, 2, 1)
"""Strides of the grids that z is coded on, coarse to fine."""

CONTEXTS = 4
"""Contexts of a hyper-latent: of the first grid, or by the spread of its neighbours: 0, 1, more."""

WEIGHT_BITS = 8
"""Fraction bits of the weight that a channel gives to the mean of its neighbours."""


@functools.lru_cache(8)
def hyper_order(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Passes of a grid of hyper-latents and the four neighbours each cell is predicted from.

    A cell belongs to the first pass whose stride divides its row and its column. From the second
    pass on it lies between cells of the grid before, whose stride S is twice its own: those at its
    row and column rounded down and up to multiples of S, or down alone where up is outside.

    Args:
      height, width: cells.

    Returns:
      The pass of each cell, int64 [h, w] in 0..3, and its neighbours, int64 [4, h, w], as indices
      into the flat grid; of the first pass, the cell itself four times.
    """
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    both = np.broadcast_arrays(rows, columns)
    number = np.full((height, width), len(STRIDES) - 1)
    for i, stride in reversed(list(enumerate(STRIDES))):
        number[(both[0] % stride == 0) & (both[1] % stride == 0)] = i
    before = np.where(number == 0, 1, 2 * np.array(STRIDES)[number])  # stride of the grid before

    def around(at: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        low = at - at % before
        high = np.where(low == at, low, low + before)
        return low, np.where(high < size, high, low)

    top, bottom = around(both[0], height)
    left, right = around(both[1], width)
    corners = [y * width + x for y in (top, bottom) for x in (left, right)]
    return number, np.stack(corners)


def first_half(height: int, width: int, channels: int) -> np.ndarray:
    """Which values of a latent are coded first: those of even row + column + channel.

    The others then have half of their own cell's channels and, of their own channel, the four
    neighbouring cells to go by (the dual prior of Li et al., ACM MM 2022).

    Args:
      height, width: cells.
      channels: C.

    Returns:
      bool [h, w, C], not to be written to: it takes no more than h + w + C bytes.
    """
    return _alternating(height, width, channels, 0)


def second_half(height: int, width: int, channels: int) -> np.ndarray:
    """All but `first_half`, likewise."""
    return _alternating(height, width, channels, 1)


def _alternating(height: int, width: int, channels: int, rest: int) -> np.ndarray:
    """Where row + column + channel leaves this rest by 2: one line of values, seen from each."""
    line = np.arange(height + width + channels) % 2 == rest
    shape = (height, width, channels)
    return np.lib.stride_tricks.as_strided(line, shape, (1, 1, 1), writeable=False)
