"""Where the bits went, as a picture. NumPy only."""

from __future__ import annotations

import numpy as np

from rcodec_jax.levels import CELL_PX

# Dark to bright with steadily rising lightness, so that it also reads in grey: (position, R, G, B).
_ANCHORS = np.array(
    [
        (0.00, 8, 10, 36),
        (0.20, 38, 32, 122),
        (0.40, 122, 38, 138),
        (0.60, 208, 62, 96),
        (0.80, 248, 140, 56),
        (1.00, 255, 244, 190),
    ]
)


def colours(values: np.ndarray) -> np.ndarray:
    """Colours of values: float [...] in 0..1 (clipped) to uint8 [...,3]."""
    clipped = np.clip(np.nan_to_num(values), 0.0, 1.0)
    channels = [np.interp(clipped, _ANCHORS[:, 0], _ANCHORS[:, i]) for i in (1, 2, 3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def draw(
    bits: np.ndarray, height_px: int, width_px: int, *, peak: float | None = None
) -> np.ndarray:
    """Draws bits per cell at the size of the picture, dark for none and bright for most.

    Args:
      bits: float [h,w], bits of each cell.
      height_px: height of the picture, at most h * CELL_PX; twice that if it was coded halved.
      width_px: width of the picture, the same of w.
      peak: bits drawn as the brightest colour; default the 99.5th percentile, so that a single
        dear cell does not darken all others.

    Returns:
      uint8 [height_px,width_px,3].
    """
    top = float(np.percentile(bits, 99.5)) if peak is None else peak
    cells = colours(bits / top if top > 0 else np.zeros_like(bits))
    return magnify(cells, height_px, width_px)


def magnify(cells: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Repeats each cell as often as it has pixels along either side: [h,w,...] -> the picture's."""
    for axis, length_px in enumerate((height_px, width_px)):
        whole = cells.shape[axis] * CELL_PX >= length_px
        cells = cells.repeat(CELL_PX if whole else 2 * CELL_PX, axis=axis)
    return cells[:height_px, :width_px]
