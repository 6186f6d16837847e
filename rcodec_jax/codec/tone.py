"""The tone map: what a decoded picture is off by over wide areas, in a few bytes of its own.

A latent-diffusion decoder is good at structure and poor at means: at low rates the tone of areas of
a hundred pixels is off by several levels, which latents would pay for in each cell. The encoder
therefore decodes what it is about to write, fits a coarse grid of colours to the error, and sends
it where it is worth its bits.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.bitstream.varint import write_varint
from rcodec_jax.entropy import ToneMap, decode_tone, encode_tone
from rcodec_jax.entropy.tone import SPACINGS_PX, STEPS, grid_shape
from rcodec_jax.levels import CELL_PX

_ROWS = 256  # of pixels corrected at a time
_MOST_POINTS = 1 << 12  # of a grid; coding one takes a second for 2^15
_LEVEL = 10  # greatest contrast of a cell that counts as level, of 0..255
_SMOOTH_SHARE = 0.9
_END_SHARE = 1 / 16  # of cells that are black or white, from which on it is looked at
_HALF_RANGE = 127.5  # levels of 0..255 that are 1 in -1..1


def interpolation(length_px: int, spacing_px: int, at: np.ndarray) -> np.ndarray:
    """Linear interpolation of a grid along one side.

    Args:
      length_px: of the side.
      spacing_px: of the grid's points, the first at half of it.
      at: coordinates in pixels [n].

    Returns:
      float64 [n, points], rows that sum to 1.
    """
    points = -(-length_px // spacing_px)
    place = np.clip(at / spacing_px - 0.5, 0, points - 1)
    low = np.minimum(place.astype(np.int64), max(points - 2, 0))
    share = place - low
    matrix = np.zeros((at.size, points))
    rows = np.arange(at.size)
    matrix[rows, low] = 1 - share
    matrix[rows, np.minimum(low + 1, points - 1)] += share
    return matrix


def add_tone(pixels: np.ndarray, tone: ToneMap) -> np.ndarray:
    """The picture with its tone map added: uint8 [H, W, 3] each."""
    height, width = pixels.shape[:2]
    across = interpolation(width, tone.spacing_px, np.arange(width) + 0.5)
    down = interpolation(height, tone.spacing_px, np.arange(height) + 0.5)
    grid = (tone.grid * tone.step).transpose(0, 2, 1) @ across.T  # [points, 3, W]
    out = np.empty_like(pixels)
    for first in range(0, height, _ROWS):
        rows = slice(first, first + _ROWS)
        added = np.tensordot(down[rows], grid, 1).transpose(0, 2, 1).astype(np.float32)
        out[rows] = np.clip(np.rint(pixels[rows] + added), 0, 255)
    return out


def is_grey(pixels: np.ndarray) -> bool:
    """Whether a picture uint8 [H, W, 3] has no colour."""
    return bool(np.all(pixels[..., 1:] == pixels[..., :1]))


def is_smooth(pixels: np.ndarray) -> bool:
    """Whether nearly all cells of a picture are about level: flats, gradients, walls, skies."""
    height, width = (side // CELL_PX for side in pixels.shape[:2])
    whole = pixels[: height * CELL_PX, : width * CELL_PX]
    cells = whole.reshape(height, CELL_PX, width, CELL_PX, 3)
    if not cells.size:
        return False
    contrast = (cells.max(axis=(1, 3)) - cells.min(axis=(1, 3))).max(axis=-1)
    return bool(np.mean(contrast <= _LEVEL) >= _SMOOTH_SHARE)


def error_bits(image: np.ndarray, decoded: np.ndarray, worth: np.ndarray) -> float:
    """What the error of a decoded picture is worth, in bits; arguments as for `fit_tone`."""
    squared = np.square((image.astype(np.float32) - decoded) / _HALF_RANGE).mean(axis=2)
    return float(np.sum(worth * _cell_sums(squared)))


def without_colour(pixels: np.ndarray) -> np.ndarray:
    """The picture with each pixel's colours at their mean: uint8 [H, W, 3] each."""
    mean = (pixels.sum(axis=2, dtype=np.uint16) + 1) // 3
    return np.repeat(mean.astype(np.uint8)[..., None], 3, axis=2)


def finish(pixels: np.ndarray, tone: ToneMap | None, *, grey: bool) -> np.ndarray:
    """What a file says of its picture besides the symbols: uint8 [H, W, 3] each."""
    pixels = pixels if tone is None else add_tone(pixels, tone)
    return without_colour(pixels) if grey else pixels


def fit_tone(
    image: np.ndarray, decoded: np.ndarray, worth: np.ndarray, *, most_bytes: float = np.inf
) -> bytes:
    """The tone map that saves most, coded; empty if none is worth its bits.

    Args:
      image, decoded: uint8 [H, W, 3].
      worth: bits that a squared error of 1 (in -1..1, averaged over colours) of one pixel is worth,
        by cell [h, w].
      most_bytes: that it may take.
    """
    error = _cell_means(image) - _cell_means(decoded)
    best, saved = _best_grid(error, worth, image.shape[:2], most_bytes)
    black = _cell_extremes(image, np.maximum) == 0
    white = _cell_extremes(image, np.minimum) == 255
    if np.any(black | white, axis=-1).mean() < _END_SHARE:
        return best
    # There a picture can be off to one side alone, and what is added beyond the end is cut off: the
    # largest error leaves none.
    at_end = np.where(black, -_cell_extremes(decoded, np.maximum), error)
    at_end = np.where(white, 255 - _cell_extremes(decoded, np.minimum), at_end)
    if np.any(at_end != error, axis=-1).mean() >= _END_SHARE:
        other, _ = _best_grid(at_end, worth, image.shape[:2], most_bytes)
        if other:
            drawn = add_tone(decoded, decode_tone(other, *image.shape[:2]))
            gain = error_bits(image, decoded, worth) - error_bits(image, drawn, worth)
            best = other if gain - 8 * _bytes_taken(other) > saved else best
    return best


def _best_grid(
    error: np.ndarray, worth: np.ndarray, size: tuple[int, ...], most_bytes: float
) -> tuple[bytes, float]:
    """The coded grid that takes most of the cells' errors [h, w, 3] away, and the bits it saves.

    Other arguments as for `fit_tone`; size is (H, W). Empty, and 0, if none is worth its bits.
    """
    height, width = size
    down, across = (_cells(n) for n in (height, width))
    pixels = np.outer(down[1], across[1])
    weight = (worth * pixels / (3 * _HALF_RANGE**2))[..., None]
    best, saved = b"", 0.0
    for spacing in SPACINGS_PX:
        if np.prod(grid_shape(height, width, spacing)[:2]) > _MOST_POINTS:
            continue
        rows = interpolation(height, spacing, down[0])
        columns = interpolation(width, spacing, across[0])
        grid = np.einsum(
            "ph,hwc,qw->pqc", np.linalg.pinv(rows), error, np.linalg.pinv(columns), optimize=True
        )
        for step in STEPS:
            whole = np.clip(np.rint(grid / step), -(255 // step), 255 // step).astype(np.int32)
            if not whole.any():
                continue
            coded = encode_tone(ToneMap(spacing, step, whole))
            added = np.einsum("hp,pqc,wq->hwc", rows, whole * step, columns, optimize=True)
            taken = _bytes_taken(coded)
            gain = float(np.sum(weight * (2 * error - added) * added)) - 8 * taken
            if gain > saved and taken <= most_bytes:
                best, saved = coded, gain
    return best, saved


def _bytes_taken(coded: bytes) -> int:
    """Of a file by a coded map, its length included."""
    return len(write_varint(len(coded))) + len(coded)


def _cells(length_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the cells along a side, in pixels, and their lengths."""
    edges = np.minimum(np.arange(0, length_px + CELL_PX, CELL_PX), length_px)
    edges = np.unique(edges)
    return (edges[:-1] + edges[1:]) / 2, np.diff(edges)


def _cell_means(pixels: np.ndarray) -> np.ndarray:
    """Means of cells: uint8 [H, W, 3] -> float64 [h, w, 3]."""
    lengths = [_cells(side)[1] for side in pixels.shape[:2]]
    means: np.ndarray = _cell_sums(pixels) / np.outer(*lengths)[..., None].astype(np.float64)
    return means


def _cell_extremes(pixels: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """Minima or maxima of cells: uint8 [H, W, 3] -> float64 [h, w, 3]."""
    return _over_cells(extreme, pixels).astype(float)


def _cell_sums(x: np.ndarray) -> np.ndarray:
    """Sums over cells: [H, W, ...] -> float32 [h, w, ...]."""
    return _over_cells(np.add, x, np.float32)


def _over_cells(function: np.ufunc, x: np.ndarray, dtype: type | None = None) -> np.ndarray:
    """What a function of two makes of all in a cell: [H, W, ...] -> [h, w, ...] of the dtype."""
    down, across = (np.arange(0, side, CELL_PX) for side in x.shape[:2])
    rows = function.reduceat(x, across, axis=1, dtype=dtype)
    cells: np.ndarray = function.reduceat(rows, down, axis=0)
    return cells
