"""Inside of a box: "box:x0,y0,x1,y1"."""

from __future__ import annotations

import numpy as np

from rcodec_jax.regions.importance import from_boxes
from rcodec_jax.regions.sources.arguments import numbers


def importance(pixels: np.ndarray, argument: str) -> np.ndarray:
    """See `from_boxes`."""
    return from_boxes([numbers("box", argument, "x0,y0,x1,y1")], *pixels.shape[:2])
