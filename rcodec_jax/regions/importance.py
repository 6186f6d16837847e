"""Where a picture matters: importance maps from boxes and a gaze point, and how maps are joined.

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
      x, y: column and row of the pixel that is looked at, from 0; fractions lie between pixels.
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
    vertical = (np.arange(height_px, dtype=np.float32) - np.float32(y))[:, None]
    horizontal = (np.arange(width_px, dtype=np.float32) - np.float32(x))[None]
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
