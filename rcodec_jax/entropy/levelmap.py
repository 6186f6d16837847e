"""The level map as bytes: adaptive binary context coding of which level each cell has.

A map is coded at 1, 2, 4 or 8 cells per entry and expanded by replication. An entry is guessed to
equal its west neighbour, then its north and north-east ones; contexts are which of the four known
neighbours agree. The exact rules are in bitstream/FORMAT.md.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.flags import Counts, FlagReader, FlagWriter
from rcodec_jax.errors import CorruptPayloadError, RcodecError
from rcodec_jax.levels import MAX_LEVELS
from rcodec_jax.limits import Limits

GRANULARITIES = (1, 2, 4, 8)

# Contexts: 0..15 west guess, 16..23 north guess, 24..25 north-east guess, 26 direction,
# 27..29 size of the step.
_NORTH, _NORTH_EAST, _UP, _STEP = 16, 24, 26, 27
_CONTEXTS = 30
_FLAT = 7  # west, north, north-west and north-east all agree
_GRANULARITY_BITS = 2


def _counts() -> Counts:
    return Counts(_CONTEXTS, mostly_false=(_FLAT, _FLAT | 8))


def _code_entry(
    coder: FlagWriter | FlagReader, around: tuple[int, int, int, int], count: int, value: int
) -> int:
    """Codes one entry; a reader ignores `value` and returns the decoded one.

    Args:
      around: west, north, north-west and north-east entries.
      count: number of levels, at least 2.
    """
    west, north, north_west, north_east = around
    context = (
        (west == north) | (west == north_west) << 1 | (west == north_east) << 2
        | (north == north_east) << 3
    )  # fmt: skip
    if not coder.flag(context, value != west):
        return west
    if count == 2:
        return 1 - west
    if north != west:
        context = (north == north_west) | (north == north_east) << 1 | (west == north_west) << 2
        if not coder.flag(_NORTH + context, value != north):
            return north
    if north_east not in (west, north) and not coder.flag(
        _NORTH_EAST + (north == north_west), value != north_east
    ):
        return north_east
    up = west == 0 or (west < count - 1 and coder.flag(_UP, value > west))
    room = count - 1 - west if up else west
    step = 1
    while step < room and coder.flag(_STEP + min(step, 3) - 1, abs(value - west) > step):
        step += 1
    return west + step if up else west - step


def _code_row(
    coder: FlagWriter | FlagReader, row: list[int], above: list[int] | None, count: int
) -> None:
    """Codes one row in place; a reader fills it in.

    Neighbours outside the map: in the first row all are the west one; west of the first column is
    the entry above it (the last level, background, for the very first); east of the last column is
    the entry above it.
    """
    west = above[0] if above else count - 1
    north = north_west = north_east = west
    last = len(row) - 1
    for x in range(len(row)):
        if above:
            north, north_east = above[x], above[x + 1 if x < last else last]
        else:
            north = north_west = north_east = west
        west = _code_entry(coder, (west, north, north_west, north_east), count, row[x])
        row[x] = west
        north_west = north


def encode_level_map(level_map: np.ndarray, level_count: int) -> bytes:
    """Codes a level map at the cheapest granularity that loses nothing.

    Args:
      level_map: uint8 [h, w], 0..level_count-1.
      level_count: number of levels, 1..16.

    Returns:
      the bytes; none for a single level.

    Raises:
      RcodecError: a shape or range is wrong.
    """
    level_map = np.asarray(level_map)
    _check_count(level_count)
    if level_map.ndim != 2 or level_map.size == 0 or level_map.dtype.kind not in "iu":
        raise RcodecError(f"level map: expected integers [h, w], got shape {level_map.shape}")
    if level_map.min() < 0 or level_map.max() >= level_count:
        raise RcodecError(f"level map: expected 0..{level_count - 1}, got {level_map.max()}")
    if level_count == 1:
        return b""
    best: bytes | None = None
    for log2, side in enumerate(GRANULARITIES):
        entries = level_map[::side, ::side]
        if side > 1 and not np.array_equal(_expand(entries, side, level_map.shape), level_map):
            break  # what is lost at this granularity is lost at all coarser ones
        writer = FlagWriter(_counts())
        writer.raw(log2, _GRANULARITY_BITS)
        above = None
        for row in entries.tolist():
            _code_row(writer, row, above, level_count)
            above = row
        data = writer.finish()
        if best is None or len(data) <= len(best):
            best = data
    assert best is not None
    return best


def decode_level_map(
    data: bytes, height: int, width: int, level_count: int, *, limits: Limits | None = None
) -> np.ndarray:
    """Decodes what `encode_level_map` wrote.

    Args:
      data: the coded bytes, all of them.
      height, width: cells.
      level_count: number of levels, 1..16.
      limits: what to refuse before anything is allocated.

    Returns:
      uint8 [height, width], 0..level_count-1.

    Raises:
      LimitError: more cells than a picture within the limits has.
      CorruptPayloadError: not what `encode_level_map` writes.
      RcodecError: level_count outside its range.
    """
    _check_count(level_count)
    (limits or Limits()).check_cells(height, width)
    if level_count == 1:
        if data:
            raise CorruptPayloadError(
                f"a single level needs no map, got {len(data)} bytes", offset=0
            )
        return np.zeros((height, width), np.uint8)
    reader = FlagReader(data, _counts())
    side = GRANULARITIES[reader.raw(0, _GRANULARITY_BITS)]
    rows, columns = -(-height // side), -(-width // side)
    entries = np.zeros((rows, columns), np.uint8)
    above: list[int] | None = None
    for y in range(rows):
        row = [0] * columns
        _code_row(reader, row, above, level_count)
        entries[y] = row
        above = row
    reader.finish()
    return _expand(entries, side, (height, width))


def _check_count(level_count: int) -> None:
    if not 1 <= level_count <= MAX_LEVELS:
        raise RcodecError(f"level count: expected 1..{MAX_LEVELS}, got {level_count}")


def _expand(entries: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    return entries.repeat(side, 0).repeat(side, 1)[: shape[0], : shape[1]]
