"""Around a point that is looked at: "gaze:x,y"."""

from __future__ import annotations

import numpy as np

from rcodec_jax.regions.importance import from_gaze
from rcodec_jax.regions.sources.arguments import numbers


def importance(pixels: np.ndarray, argument: str) -> np.ndarray:
    """See `from_gaze`."""
    x, y = numbers("gaze", argument, "x,y")
    return from_gaze(x, y, *pixels.shape[:2])
