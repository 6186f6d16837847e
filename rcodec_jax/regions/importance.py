"""Where a picture matters: importance maps from masks, boxes, a gaze point, or the picture itself.

Every map is float32 [H, W] in 0..1, one value a pixel, 1 the most important.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from rcodec_jax.errors import UsageError

HALF_RESOLUTION_DEGREES = 2.3
"""Eccentricity at which visual acuity has fallen to half (Geisler and Perry, 1998)."""

DEGREES_ACROSS = 30.0
"""Visual angle of a picture's longer side: a screen at arm's length."""

FOVEA_DEGREES = 1.5
"""Radius of the fovea."""

OBJECT_COVERAGE = (0.02, 0.5)
"""Smallest and largest share of a picture that an object has where regions are measured."""

_SALIENCY_SIDE = 64


def from_boxes(boxes: Iterable[Sequence[float]], height_px: int, width_px: int) -> np.ndarray:
    """1 inside any of the boxes, 0 elsewhere.

    Args:
      boxes: (x0, y0, x1, y1) in pixels from the top left corner, x1 and y1 exclusive; fractions
        are rounded outwards, parts outside of the picture are cut off.
      height_px: height of the picture.
      width_px: width of the picture.

    Returns:
      float32 [H, W].

    Raises:
      UsageError: no box, or one that is empty, not finite or wholly outside of the picture.
    """
    importance = np.zeros((height_px, width_px), np.float32)
    count = 0
    for box in boxes:
        given = ",".join(f"{value:g}" for value in box)
        if len(box) != 4:
            raise UsageError(f"expected a box as x0,y0,x1,y1, got {given!r}")
        x0, y0, x1, y1 = (float(value) for value in box)
        if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 >= x1 or y0 >= y1:
            raise UsageError(f"expected a box x0,y0,x1,y1 with x0 < x1 and y0 < y1, got {given}")
        if x0 >= width_px or y0 >= height_px or x1 <= 0 or y1 <= 0:
            raise UsageError(f"expected a box inside the {width_px}x{height_px} image, got {given}")
        rows = slice(max(0, math.floor(y0)), math.ceil(y1))
        importance[rows, max(0, math.floor(x0)) : math.ceil(x1)] = 1.0
        count += 1
    if not count:
        raise UsageError("expected at least one box x0,y0,x1,y1, got none")
    return importance


def from_gaze(x: float, y: float, height_px: int, width_px: int) -> np.ndarray:
    """Importance as the eye resolves it: 1 in the fovea, then falling like visual acuity.

    Outside of the fovea it is e2 / (e2 + e), e the eccentricity beyond the fovea's edge and
    e2 = 2.3 degrees, the eccentricity of half resolution (Geisler and Perry, 1998).

    Args:
      x: gaze point in pixels from the left edge.
      y: gaze point in pixels from the top edge.
      height_px: height of the picture.
      width_px: width of the picture.

    Returns:
      float32 [H, W].

    Raises:
      UsageError: the point is outside of the picture.
    """
    if not (0 <= x < width_px and 0 <= y < height_px):
        raise UsageError(
            f"expected a gaze point x,y inside the {width_px}x{height_px} image, got {x:g},{y:g}"
        )
    degrees_per_px = DEGREES_ACROSS / max(height_px, width_px)
    vertical = (np.arange(height_px, dtype=np.float32) + 0.5 - np.float32(y + 0.5))[:, None]
    horizontal = (np.arange(width_px, dtype=np.float32) + 0.5 - np.float32(x + 0.5))[None]
    eccentricity = np.sqrt(vertical**2 + horizontal**2) * np.float32(degrees_per_px)
    beyond = np.maximum(eccentricity - np.float32(FOVEA_DEGREES), 0)
    return (HALF_RESOLUTION_DEGREES / (HALF_RESOLUTION_DEGREES + beyond)).astype(np.float32)


def combine(*maps: np.ndarray) -> np.ndarray:
    """The maximum of importance maps: what matters to one source matters.

    Raises:
      UsageError: no map, or maps of different shapes.
    """
    if not maps:
        raise UsageError("expected at least one importance map, got none")
    shapes = sorted({importance.shape for importance in maps})
    if len(shapes) > 1:
        raise UsageError(f"expected importance maps of one shape, got {shapes}")
    return np.maximum.reduce([np.asarray(importance, np.float32) for importance in maps])


def saliency(image: np.ndarray) -> np.ndarray:
    """What stands out, by the spectral residual (Hou and Zhang, CVPR 2007).

    The log amplitude spectrum of the picture at 64 px, less its local average, back to space and
    smoothed. A rough guess that costs milliseconds.

    Args:
      image: uint8 or float [H, W, 3] or [H, W].

    Returns:
      float32 [H, W]; all ones where nothing stands out.
    """
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    height, width = grey.shape
    scale = max(1.0, max(height, width) / _SALIENCY_SIDE)
    small = _shrink(grey, max(1, round(height / scale)), max(1, round(width / scale)))
    small = small - small.mean()
    if float(np.abs(small).max()) < 1e-3:
        return np.ones((height, width), np.float32)
    spectrum = np.fft.fft2(small)
    log_amplitude = np.log(np.abs(spectrum) + 1e-6)
    residual = log_amplitude - _box_mean(log_amplitude)
    energy = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = _blur(energy, sigma=2.5)
    low, high = np.percentile(smooth, (5, 99))
    if not high > low:
        return np.ones((height, width), np.float32)
    return _enlarge(np.clip((smooth - low) / (high - low), 0, 1), height, width)


def _shrink(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean over a grid of rows x columns nearly equal blocks."""
    tops = np.arange(rows) * grey.shape[0] // rows
    lefts = np.arange(columns) * grey.shape[1] // columns
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), tops, 0), lefts, 1)
    heights = np.diff(np.append(tops, grey.shape[0]))[:, None]
    return sums / (heights * np.diff(np.append(lefts, grey.shape[1])))


def _box_mean(values: np.ndarray) -> np.ndarray:
    """Mean over 3x3 on a torus, as a spectrum is one."""
    vertical = values + np.roll(values, 1, 0) + np.roll(values, -1, 0)
    return (vertical + np.roll(vertical, 1, 1) + np.roll(vertical, -1, 1)) / 9


def _blur(values: np.ndarray, *, sigma: float) -> np.ndarray:
    """Gaussian blur of a small array, mirrored at the edges."""
    for axis in (0, 1):
        reach = math.ceil(3 * sigma)
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        pad = [(reach, reach) if axis == along else (0, 0) for along in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(values, pad, mode="symmetric"), len(taps), axis=axis
        )
        values = windows @ (taps / taps.sum())
    return values


def _enlarge(values: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Bilinear resize with half-pixel centres: float32 [height_px, width_px]."""
    for axis, size in ((0, height_px), (1, width_px)):
        count = values.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(at.astype(np.int64), max(count - 2, 0))
        high = np.minimum(low + 1, count - 1)
        weight = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return values.astype(np.float32)
