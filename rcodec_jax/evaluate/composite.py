"""A rival of region files that needs no regions: two uniform files of ours, cut by the mask.

One file is of the box around the region, the other of the whole picture. The map of the region's
cells is coded as our own files code theirs. All of it counts, so that what the region file saves by
being one file shows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rcodec_jax.entropy import decode_level_map, encode_level_map
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import CodecLike
from rcodec_jax.levels import CELL_PX

NAME = "composite"
_SHARE = 0.3
"""A cell belongs to the region if at least this share of it does, as blocks of other encoders."""
_HEADER = struct.Struct("<HHHI")
"""Top and left of the box in cells, bytes of the map, bytes of the box's file."""


class Composite:
    """Two files in one: the strength is the share of the bytes that the region's box gets.

    Args:
      codec: ours.
      read: pixels uint8 [H, W, 3] of one of its files.
      encoding: further options of `encode`.
    """

    name = NAME
    suffix = ".two"
    strengths = (0.4, 0.6, 0.8)

    def __init__(
        self,
        codec: CodecLike,
        read: Callable[[bytes], np.ndarray],
        encoding: Mapping[str, Any] | None = None,
    ) -> None:
        self._codec, self._read, self._encoding = codec, read, dict(encoding or {})

    def fit(self, pixels: np.ndarray, mask: np.ndarray, share: float, size_bytes: int) -> bytes:
        """A file of uint8 [H, W, 3] of at most `size_bytes`; `mask` float [H, W] in 0..1.

        Raises:
          UsageError: no region, or no files as small as that.
        """
        cells = region_cells(mask)
        if not cells.any():
            raise UsageError("the region covers no cell")
        (top, bottom), (left, right) = (_ends(at) for at in np.nonzero(cells))
        coded = encode_level_map(cells[top:bottom, left:right].astype(np.uint8), 2)
        left_over = size_bytes - _HEADER.size - len(coded)
        box = pixels[top * CELL_PX : bottom * CELL_PX, left * CELL_PX : right * CELL_PX]
        inside = self._encode(box, round(share * left_over))
        outside = self._encode(pixels, left_over - len(inside))
        header = _HEADER.pack(top, left, len(coded), len(inside))
        return header + coded + inside + outside

    def decode(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        top, left, *lengths = _HEADER.unpack_from(data)
        ends = np.cumsum([_HEADER.size, *lengths])
        coded, inside, outside = (
            data[start:end] for start, end in zip(ends, [*ends[1:], len(data)], strict=True)
        )
        box, whole = self._read(inside), np.array(self._read(outside))
        height, width = (-(-side // CELL_PX) for side in box.shape[:2])
        cells = decode_level_map(coded, height, width, 2).astype(bool)
        chosen = cells.repeat(CELL_PX, 0).repeat(CELL_PX, 1)[: box.shape[0], : box.shape[1]]
        at = whole[top * CELL_PX :, left * CELL_PX :][: box.shape[0], : box.shape[1]]
        at[chosen] = box[chosen]
        return whole

    def _encode(self, pixels: np.ndarray, size_bytes: int) -> bytes:
        return self._codec.encode(
            np.ascontiguousarray(pixels), size_bytes=max(size_bytes, 1), **self._encoding
        )


def region_cells(mask: np.ndarray) -> np.ndarray:
    """The cells of a mask float [H, W] in 0..1 that belong to the region, bool [H/8, W/8] up."""
    pad = [(0, -side % CELL_PX) for side in mask.shape]
    # Edge cells count what there is of them.
    inside, there = (np.pad(part, pad) for part in (mask, np.ones_like(mask)))
    shape = [n for side in inside.shape for n in (side // CELL_PX, CELL_PX)]
    sums = [part.reshape(shape).sum(axis=(1, 3)) for part in (inside, there)]
    found: np.ndarray = sums[0] >= _SHARE * sums[1]
    return found


def _ends(at: np.ndarray) -> tuple[int, int]:
    """The least of some indices, and one past the largest."""
    return int(at.min()), int(at.max()) + 1
