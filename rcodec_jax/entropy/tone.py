"""The tone map as bytes: what a coarse grid of colours adds to a picture (FORMAT.md, 5.1).

Grid points are coded one after the other, green first, then red and blue less green. Each is
guessed from its neighbours; adaptive flags tell what is left. A map takes ten to a hundred bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rcodec_jax.entropy.flags import Counts, FlagReader, FlagWriter
from rcodec_jax.errors import CorruptPayloadError, RcodecError

SPACINGS_PX = (32, 64, 128, 256)
STEPS = (1, 2, 4, 8)
CHANNELS = 3

# Contexts of green, then of the differences: 0..2 nothing is left, by how many of the west and
# north neighbours that was not so of; 3 sign; 4..11 further, by how far it is.
_SIGN, _FURTHER, _LENGTHS, _CONTEXTS = 3, 4, 8, 12
_LARGEST = 1023


@dataclass(frozen=True, eq=False)
class ToneMap:
    """Colours to add, at the points of a grid.

    Attributes:
      spacing_px: distance of the points, one of SPACINGS_PX; the first is half of it from the edge.
      step: levels of 0..255 that a unit stands for, one of STEPS.
      grid: int32 [ceil(H / spacing), ceil(W / spacing), 3], sRGB, within -255..255.

    Raises:
      RcodecError: not of these.
    """

    spacing_px: int
    step: int
    grid: np.ndarray

    def __post_init__(self) -> None:
        if self.spacing_px not in SPACINGS_PX or self.step not in STEPS:
            raise RcodecError(f"tone map: no spacing {self.spacing_px} of step {self.step}")
        if self.grid.ndim != 3 or self.grid.shape[2] != CHANNELS or self.grid.dtype != np.int32:
            raise RcodecError(
                f"tone map: expected int32 [h, w, {CHANNELS}], got {self.grid.dtype} "
                f"{self.grid.shape}"
            )
        if self.grid.size and np.abs(self.grid).max() > 255:
            raise RcodecError("tone map: expected values within -255..255")


def grid_shape(height_px: int, width_px: int, spacing_px: int) -> tuple[int, int, int]:
    """Shape of the grid of a picture."""
    return -(-height_px // spacing_px), -(-width_px // spacing_px), CHANNELS


def encode_tone(tone: ToneMap) -> bytes:
    """Codes a tone map."""
    writer = FlagWriter(Counts(2 * _CONTEXTS))
    writer.raw(SPACINGS_PX.index(tone.spacing_px), 2)
    writer.raw(STEPS.index(tone.step), 2)
    grid = tone.grid.astype(np.int64)
    _code_grid(writer, np.concatenate([grid[..., 1:2], grid[..., ::2] - grid[..., 1:2]], axis=2))
    return writer.finish()


def decode_tone(data: bytes, height_px: int, width_px: int) -> ToneMap:
    """Decodes what `encode_tone` wrote for a picture of that size.

    Raises:
      CorruptPayloadError: damage.
    """
    reader = FlagReader(data, Counts(2 * _CONTEXTS))
    spacing, step = SPACINGS_PX[reader.raw(0, 2)], STEPS[reader.raw(0, 2)]
    coded = np.zeros(grid_shape(height_px, width_px, spacing), np.int64)
    _code_grid(reader, coded)
    reader.finish()
    green, red, blue = coded[..., 0], coded[..., 1] + coded[..., 0], coded[..., 2] + coded[..., 0]
    grid = np.stack([red, green, blue], axis=-1)
    if np.abs(grid).max() > 255:
        raise CorruptPayloadError("tone map: a value beyond -255..255", offset=0)
    return ToneMap(spacing, step, grid.astype(np.int32))


def _code_grid(coder: FlagWriter | FlagReader, values: np.ndarray) -> None:
    """Codes int64 [h, w, 3] in place; a reader fills it in."""
    rest = np.zeros_like(values)
    for y, x, c in np.ndindex(*values.shape):
        west, north = ((y, x - 1, c) if x else None, (y - 1, x, c) if y else None)
        known = [at for at in (west, north) if at is not None]
        guess = sum(int(values[at]) for at in known) // max(len(known), 1)
        busy = sum(bool(rest[at]) for at in known)
        rest[y, x, c] = _code_value(
            coder, _CONTEXTS * min(c, 1), busy, int(values[y, x, c]) - guess
        )
        values[y, x, c] = rest[y, x, c] + guess


def _code_value(coder: FlagWriter | FlagReader, first: int, busy: int, value: int) -> int:
    """Codes a number around 0; a reader ignores `value` and returns the decoded one."""
    if not coder.flag(first + busy, value != 0):
        return 0
    negative = coder.flag(first + _SIGN, value < 0)
    size = 1
    while coder.flag(first + _FURTHER + min(size, _LENGTHS) - 1, abs(value) > size):
        size += 1
        if size > _LARGEST:
            raise CorruptPayloadError("tone map: a difference that no map has", offset=0)
    return -size if negative else size
