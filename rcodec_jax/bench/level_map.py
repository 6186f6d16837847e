"""`rcodec bench level-map`: what a level map costs, beside PNG, raw packing and an entropy."""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures.images import open_image
from rcodec_jax.entropy import encode_level_map
from rcodec_jax.entropy.levelmap import GRANULARITIES
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import NODE_SPAN
from rcodec_jax.regions.importance import OBJECT_COVERAGE, from_boxes, from_gaze
from rcodec_jax.regions.levelmap import LevelMap, build_level_map, cell_shape, pool_importance

HEIGHT_PX, WIDTH_PX = 512, 768
FILE_BPP = 0.1
"""Rate of the file that a map's share is stated of."""

BASE_NODE = 300
"""Finest node of the maps; the coded bytes depend on them through the number of levels alone."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One map, or the means over the masks of a folder.

    Attributes:
      name: kind of map.
      maps: how many maps the row is the mean of.
      levels: number of levels, the largest of them.
      coded_bytes: what a file spends on the map; 0 for a single level.
      png_bytes: a PNG of one pixel a cell, as Pillow optimises it, in as few bits as there are.
      raw_bytes: ceil(log2 levels) bits a cell.
      entropy_bytes: see `entropy_bytes`.
      share: coded bytes over those of a file at 0.1 bpp.
      share_max: the largest of them.
    """

    name: str
    maps: int
    levels: int
    coded_bytes: float
    png_bytes: float
    raw_bytes: float
    entropy_bytes: float
    share: float
    share_max: float


def run(masks: str | Path | None = None) -> list[Row]:
    """Measures typical maps of a picture of 768x512 pixels, and the masks of a folder.

    Args:
      masks: folder of label PNGs (0 background, 1, 2, ... objects); object 1 of each counts where
        its share of the picture is within `OBJECT_COVERAGE`, at the size that its PNG has.

    Raises:
      UsageError: no such mask in the folder.
    """
    pixels = WIDTH_PX * HEIGHT_PX
    rows = [_row(name, [(levels, pixels)]) for name, levels in typical_maps()]
    if masks is not None:
        rows.append(_row("object masks", read_masks(masks)))
    return rows


def typical_maps() -> list[tuple[str, LevelMap]]:
    """Named maps of a picture of 768x512 pixels, made as the encoder makes them."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    blobs = sum(
        np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
        for cx, cy, sigma in ((250, 200, 90), (520, 330, 130))
    )
    slope = 2 * x + y
    size = (HEIGHT_PX, WIDTH_PX)
    maps = {
        "uniform": np.ones(size, np.float32),
        "box": from_boxes([(203, 101, 430, 340)], *size),
        "two boxes": from_boxes([(203, 101, 430, 340), (501, 222, 660, 470)], *size),
        "gaze point": from_gaze(300, 220, *size),
        "two smooth blobs": np.asarray(blobs / np.max(blobs)),
        "gradient across": x / x.max(),
        "gradient aslant": slope / slope.max(),
    }
    return [(name, _levels(importance)) for name, importance in maps.items()]


def read_masks(folder: str | Path) -> list[tuple[LevelMap, int]]:
    """Maps of object 1 of label PNGs, with the number of pixels of each picture.

    Raises:
      UsageError: none whose object covers a fair share.
    """
    least, most = OBJECT_COVERAGE
    found = []
    for path in sorted(Path(folder).rglob("*.png")):
        with open_image(path)[0] as image:
            if image.mode not in ("L", "P", "1"):
                continue
            mask = np.asarray(image).astype(np.uint8) == 1
        if least <= mask.mean() <= most:
            found.append((_levels(mask.astype(np.float32)), mask.size))
    if not found:
        raise UsageError(
            f"expected label PNGs whose object 1 covers {least:.0%} to {most:.0%} of "
            f"the picture in {folder}, found none"
        )
    return found


def png_bytes(levels: LevelMap) -> int:
    """Size of the map as an optimised PNG, one pixel a cell, at 1, 2, 4 or 8 bits."""
    buffer = io.BytesIO()
    if levels.level_count <= 2:
        image = Image.fromarray(levels.level_map.astype(bool))
    else:
        image = Image.fromarray(levels.level_map)
        image.putpalette([value for level in range(levels.level_count) for value in [level] * 3])
    image.save(buffer, "PNG", optimize=True)
    return buffer.tell()


def entropy_bytes(levels: LevelMap) -> float:
    """Empirical conditional entropy of an entry given four neighbours, over the whole map.

    Neighbours are the values W, N, NW and NE, outside the map as in FORMAT.md section 5, at the
    coarsest granularity that loses nothing. It is what an ideal code would take if the reader knew
    the map's own statistics of all neighbourhoods for nothing. No adaptive coder with these
    neighbours gets there, for it has to learn them; one that sees further might go below.

    Returns:
      sum over entries of -log2 (count(v, neighbours) / count(neighbours)), in bytes.
    """
    entries = levels.level_map
    for side in GRANULARITIES[1:]:
        coarse = levels.level_map[::side, ::side]
        wide = coarse.repeat(side, 0).repeat(side, 1)
        if np.array_equal(wide[: entries.shape[0], : entries.shape[1]], levels.level_map):
            entries = coarse
    if levels.level_count == 1:
        return 0.0
    joint: collections.Counter[tuple[int, ...]] = collections.Counter()
    rows = entries.tolist()
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if y:
                above = rows[y - 1]
                north, north_east = above[x], above[min(x + 1, len(row) - 1)]
                west, north_west = (row[x - 1], above[x - 1]) if x else (north, north)
            else:
                west = row[x - 1] if x else levels.level_count - 1
                north = north_west = north_east = west
            joint[west, north, north_west, north_east, value] += 1
    around: collections.Counter[tuple[int, ...]] = collections.Counter()
    for key, count in joint.items():
        around[key[:4]] += count
    bits = -sum(n * math.log2(n / around[key[:4]]) for key, n in joint.items())
    return abs(bits) / 8  # no minus zero


def _levels(importance: np.ndarray) -> LevelMap:
    cells = pool_importance(importance, *cell_shape(*importance.shape))
    return build_level_map(cells, base=BASE_NODE, span=NODE_SPAN)


def _row(name: str, maps: Iterable[tuple[LevelMap, int]]) -> Row:
    maps = list(maps)
    coded = [len(encode_level_map(m.level_map, m.level_count)) for m, _ in maps]
    shares = [8 * size / (FILE_BPP * n) for size, (_, n) in zip(coded, maps, strict=True)]
    bits = [(m.level_count - 1).bit_length() for m, _ in maps]
    raw = [-(-m.level_map.size * b // 8) for b, (m, _) in zip(bits, maps, strict=True)]
    return Row(
        name=name,
        maps=len(maps),
        levels=max(m.level_count for m, _ in maps),
        coded_bytes=statistics.fmean(coded),
        png_bytes=statistics.fmean(png_bytes(m) for m, _ in maps),
        raw_bytes=statistics.fmean(raw),
        entropy_bytes=statistics.fmean(entropy_bytes(m) for m, _ in maps),
        share=statistics.fmean(shares),
        share_max=max(shares),
    )
