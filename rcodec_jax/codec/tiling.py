"""Few compiled shapes for pictures of any size: buckets for the small, tiles for the large.

Sizes are in latent cells. A picture is extended by mirroring to its bucket; what the networks make
of the extension is cut off again, and no symbol exists for it, so files do not depend on buckets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

STEP = 16
"""Buckets and tiles lie on multiples of this many cells: every UNet here halves at most 4 times."""

BUCKETS = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192)
"""Sides that are processed whole, in cells."""

TILE = BUCKETS[-1]
"""Longest side of a tile of anything larger."""

HALO = 16
"""Cells of context around a tile's core: the autoencoders here reach 10 cells, and of the denoiser
what is further away changes one byte in a million by 1. Twice as much made 24 megapixels take 1.6
times the work."""

WIDE_HALO = 32
"""The same of networks with statistics or attention over the whole picture, whose tiles fade into
one another."""

Window = tuple[slice, slice]

Array = Any
"""An array [h, w, ...], or what has a `shape` and gives such arrays for a `Window`."""


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


class Extended:
    """An array [h, w, ...] mirrored to [height, width, ...], window by window.

    Args:
      x: an array, or what has its shape and gives arrays for windows.
      height, width: at least those of `x`.
    """

    def __init__(self, x: Any, height: int, width: int) -> None:
        self._x = x
        self.shape = (height, width, *x.shape[2:])

    def __getitem__(self, window: Window) -> np.ndarray:
        inner, sides = [], []
        for own, side in zip(window, self._x.shape, strict=False):
            # What is mirrored into a window may lie in front of it.
            beyond = max(0, own.stop - side)
            inner.append(slice(min(own.start, max(0, side - beyond)), min(own.stop, side)))
            sides.append(own.stop - inner[-1].start)
        rows, columns = (own.start - part.start for own, part in zip(window, inner, strict=True))
        return extend(self._x[tuple(inner)], *sides)[rows:, columns:]


def tile_length(side: int, tile: int = TILE, halo: int = HALO) -> int:
    """Length of tiles along a side: the shortest bucket with which there are no more of them.

    Of what tiles compute, much is computed twice, most of all at the end of a side that they do not
    fit. Buckets alone, as each pair of lengths is a program to compile: nine pairs at most.

    Args:
      side: length in cells; a bucket, or a multiple of 16.
      tile: the longest of a tile, more than twice the halo.
      halo: context on either side of a tile's core.
    """
    if side <= tile:
        return side
    count = -(-(side - 2 * halo) // (tile - 2 * halo))
    needed = -(-(side - 2 * halo) // count) + 2 * halo
    return min(tile, bucket(needed))


def tile_size(cells: tuple[int, int], tile: int = TILE, halo: int = HALO) -> tuple[int, int]:
    """Height and width of a picture's tiles; see `tile_length`."""
    return tile_length(cells[0], tile, halo), tile_length(cells[1], tile, halo)


def spans(side: int, tile: int = TILE, halo: int = HALO) -> list[tuple[int, int, int]]:
    """Tiles along one side.

    Args:
      side: length in cells; a bucket, or a multiple of 16.
      tile: length of a tile; see `tile_length`.
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


class Tile(NamedTuple):
    """A tile and its core, in cells; the cores of all tiles partition the picture.

    Attributes:
      whole: the tile, context included.
      core: what is kept of it.
      own: the same, counted from the tile's corner.
    """

    whole: Window
    core: Window
    own: Window


def tiles(cells: tuple[int, int], size: tuple[int, int], halo: int = HALO) -> list[Tile]:
    """Tiles of a picture of so many cells, row by row.

    Args:
      cells: sides of the picture.
      size: sides of a tile; see `tile_size`.
      halo: see `spans`.
    """

    def along(side: int, length: int) -> list[tuple[slice, slice, slice]]:
        return [
            (slice(a, a + min(length, side)), slice(b, c), slice(b - a, c - a))
            for a, b, c in spans(side, length, halo)
        ]

    rows, columns = map(along, cells, size)
    return [Tile(*zip(row, column, strict=True)) for row in rows for column in columns]


def finer(window: Window, k: int) -> Window:
    """A window of cells in an array that has k elements along the side of each."""
    rows, columns = (slice(s.start * k, s.stop * k) for s in window)
    return rows, columns


def coarser(window: Window, stride: int) -> Window:
    """A window of cells in an array that has an element for `stride` cells along a side."""
    rows, columns = (slice(s.start // stride, s.stop // stride) for s in window)
    return rows, columns


def map_tiles(
    f: Callable[..., np.ndarray],
    arrays: Sequence[Array],
    cells: tuple[int, int],
    tile: int = TILE,
    halo: int = HALO,
    *,
    blend: bool = False,
    tile_done: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Applies a function to a picture in tiles and puts the results together.

    Args:
      f: takes the tiles of `arrays`, each [h_i, w_i, ...], and returns one array [h_o, w_o, ...].
      arrays: inputs whose sides are whole multiples of `cells`.
      cells: sides of the picture in cells.
      tile, halo: see `tile_length`.
      blend: whether tiles fade into one another over their halos. For a function that is not local,
        such as a network with statistics over the whole picture: its tiles differ in tone, and a
        hard edge between cores would show.
      tile_done: called with (tiles done, tiles in all) where there are several.

    Returns:
      What `f` would return for the whole, up to what it draws from beyond the halo.
    """
    size = tile_size(cells, tile, halo)
    rows, columns = spans(cells[0], size[0], halo), spans(cells[1], size[1], halo)
    if len(rows) == len(columns) == 1:
        whole = (slice(0, cells[0]), slice(0, cells[1]))
        return np.asarray(f(*(a[finer(whole, a.shape[0] // cells[0])] for a in arrays)))
    result: np.ndarray | None = None
    kind = np.dtype(np.uint8)
    for number, (row, column) in enumerate(itertools.product(rows, columns), 1):
        parts = [
            array[_window((row[0], column[0]), size, array.shape[0] // cells[0])]
            for array in arrays
        ]
        out = np.asarray(f(*parts))
        k = out.shape[0] // size[0]
        if result is None:
            kind = out.dtype
            shape = (cells[0] * k, cells[1] * k, *out.shape[2:])
            result = np.zeros(shape, np.float32 if blend else kind)
        if tile_done:
            tile_done(number, len(rows) * len(columns))
        window = _window((row[0], column[0]), size, k)
        shares = [
            _shares(span, length, side, k, _fade(length, halo) if blend else 0)
            for span, length, side in zip((row, column), size, cells, strict=True)
        ]
        weight = np.multiply.outer(*shares).reshape(*out.shape[:2], *[1] * (out.ndim - 2))
        if blend:
            result[window] += weight * out
        else:
            np.copyto(result[window], out, where=weight > 0)
    assert result is not None  # there is at least one tile
    return result.astype(kind) if kind.kind == "f" else np.rint(result).astype(kind)


def _window(start: tuple[int, int], size: tuple[int, int], k: int) -> Window:
    """A tile in an array that has k elements along the side of a cell."""
    (top, left), (height, width) = start, size
    return slice(top * k, (top + height) * k), slice(left * k, (left + width) * k)


def _fade(length: int, halo: int) -> int:
    """Over how many cells tiles fade: a core in the middle must outlast both its fades."""
    return min(halo, max(length - 2 * halo, 0) // 2)


def _shares(span: tuple[int, int, int], length: int, side: int, k: int, fade: int) -> np.ndarray:
    """How much of the result is this tile's along one side; with its neighbours it adds up to 1.

    Args:
      span: as `spans` gives it.
      length: of the tile in cells.
      side: of the picture in cells.
      k: elements per cell.
      fade: cells on either side of a core's end over which a tile gives way to the next; 0 for
        none. Tiles reach at least so far beyond their cores.
    """
    start, first, last = span
    place = start + (np.arange(length * k) + 0.5) / k
    width = max(2 * fade, 1e-9)
    rise = np.clip((place - first) / width + 0.5, 0, 1) if first > 0 else np.ones(place.shape)
    fall = np.clip((last - place) / width + 0.5, 0, 1) if last < side else np.ones(place.shape)
    return np.asarray(np.minimum(rise, fall), np.float32)
