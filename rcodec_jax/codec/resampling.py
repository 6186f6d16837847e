"""Pictures at half their width and height, and back: what a file with resampling 2 is made of.

Pillow resamples 8-bit pixels with integers, so that both ways give the same bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from rcodec_jax.bitstream.container import coded_size


def halve(pixels: np.ndarray) -> np.ndarray:
    """The picture at half its sides, rounded up: uint8 [H, W, 3] -> [ceil(H/2), ceil(W/2), 3]."""
    height, width = coded_size(pixels.shape[0], pixels.shape[1], 2)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def halve_importance(importance: np.ndarray) -> np.ndarray:
    """Maxima of 2x2: what a pixel of the reduced picture covers counts as its most important."""
    down, across = (np.arange(0, side, 2) for side in importance.shape)
    return np.maximum.reduceat(np.maximum.reduceat(importance, down, axis=0), across, axis=1)


def enlarge(pixels: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """The reduced picture at the sides that it is shown with: uint8 [height_px, width_px, 3]."""
    image = Image.fromarray(pixels)
    return np.array(image.resize((width_px, height_px), Image.Resampling.BICUBIC))
