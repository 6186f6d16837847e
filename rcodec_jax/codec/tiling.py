"""Few compiled shapes for pictures of any size: buckets for the small, tiles for the large.

Sizes are in latent cells. A picture is extended by mirroring to its bucket; what the networks make
of the extension is cut off again, and no symbol exists for it, so files do not depend on buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

STEP = 16
"""Buckets and tiles lie on multiples of this many cells: every UNet here halves at most 4 times."""

BUCKETS = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192)
"""Sides that are processed whole, in cells."""

TILE = BUCKETS[-1]
"""Side of a tile of anything larger."""

HALO = 32
"""Cells of context around a tile's core; further away, an output hardly depends on an input."""

Window = tuple[slice, slice]


def bucket(side: int) -> int:
    """Extended side for `side` cells: the next bucket, or the next multiple of 16 beyond them."""
    for size in BUCKETS:
        if side <= size:
            return size
    return -(-side // STEP) * STEP


def extend(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mirrors [h, w, ...] at its lower and right edge to [height, width, ...]."""
    pad = [(0, height - x.shape[0]), (0, width - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
    return np.pad(x, pad, mode="symmetric") if any(after for _, after in pad) else x


def spans(side: int, tile: int = TILE, halo: int = HALO) -> list[tuple[int, int, int]]:
    """Tiles along one side.

    Args:
      side: length in cells; a bucket, or a multiple of 16.
      tile: length of a tile.
      halo: context on either side of a tile's core.

    Returns:
      (start of the tile, start of its core, end of its core) of each; the cores partition
      0..side. At the picture's border a tile reaches no further: there the networks' own padding is
      the right context. A single span if `side` is at most a tile.
    """
    if side <= tile:
        return [(0, 0, side)]
    core = tile - 2 * halo
    starts: list[tuple[int, int, int]] = []
    done = 0
    while done < side:
        start = min(max(done - halo, 0), side - tile)
        end = side if start + tile >= side else min(start + tile - halo, done + core + halo)
        starts.append((start, done, end))
        done = end
    return starts


def map_tiles(
    f: Callable[..., np.ndarray],
    arrays: Sequence[np.ndarray],
    cells: tuple[int, int],
    tile: int = TILE,
    halo: int = HALO,
) -> np.ndarray:
    """Applies a local function to a picture in tiles and puts the results together.

    Args:
      f: takes the tiles of `arrays`, each [h_i, w_i, ...], and returns one array [h_o, w_o, ...].
      arrays: inputs whose sides are whole multiples of `cells`.
      cells: sides of the picture in cells.
      tile, halo: see `spans`.

    Returns:
      What `f` would return for the whole, up to what it draws from beyond the halo.
    """
    rows, columns = spans(cells[0], tile, halo), spans(cells[1], tile, halo)
    if len(rows) == len(columns) == 1:
        return np.asarray(f(*arrays))
    result: np.ndarray | None = None
    size = (min(tile, cells[0]), min(tile, cells[1]))
    for top, core_top, core_bottom in rows:
        for left, core_left, core_right in columns:
            parts = []
            for array in arrays:
                k = array.shape[0] // cells[0]
                window = (
                    slice(top * k, (top + size[0]) * k),
                    slice(left * k, (left + size[1]) * k),
                )
                parts.append(array[window])
            out = np.asarray(f(*parts))
            k = out.shape[0] // size[0]
            if result is None:
                result = np.empty((cells[0] * k, cells[1] * k, *out.shape[2:]), out.dtype)
            result[core_top * k : core_bottom * k, core_left * k : core_right * k] = out[
                (core_top - top) * k : (core_bottom - top) * k,
                (core_left - left) * k : (core_right - left) * k,
            ]
    assert result is not None  # there is at least one tile
    return result
