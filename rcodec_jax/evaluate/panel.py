"""Side-by-side pictures for looking at what a region of interest does."""

from __future__ import annotations

import io

import numpy as np

from rcodec_jax.data import write_image

_GAP_PX = 4


def roi_panel(
    original: np.ndarray, mask: np.ndarray, uniform: np.ndarray, favoured: np.ndarray
) -> bytes:
    """PNG with original, mask (0..1), uniform and region file from left to right."""
    grey = np.repeat(np.round(255 * mask).astype(np.uint8)[..., None], 3, axis=-1)
    gap = np.full((original.shape[0], _GAP_PX, 3), 255, np.uint8)
    parts = [original, gap, grey, gap, uniform, gap, favoured]
    buffer = io.BytesIO()
    write_image(buffer, np.concatenate(parts, axis=1), "PNG")
    return buffer.getvalue()
