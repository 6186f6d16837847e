"""PSNR of single pictures of bytes, for reports. NumPy alone."""

from __future__ import annotations

import numpy as np

from rcodec_jax.errors import UsageError

LEAST_ERROR = 1e-3
"""Mean squared error of equal pictures, as something has to be averaged: 78 dB."""


def psnr_db(original: np.ndarray, decoded: np.ndarray, weight: np.ndarray | None = None) -> float:
    """PSNR in dB over all channels, at most 78.1.

    Args:
      original, decoded: [H, W, C] in 0..255.
      weight: of each pixel, floats or bool [H, W], not all 0; None: all count alike.

    Raises:
      UsageError: other shapes, or weights of 0 alone.
    """
    if original.shape != decoded.shape or original.ndim != 3:
        raise UsageError(
            f"expected two [H, W, C] arrays of one shape, got {original.shape}, {decoded.shape}"
        )
    if weight is not None and (weight.shape != original.shape[:2] or not weight.any()):
        raise UsageError(f"expected weights {list(original.shape[:2])} that are not all 0")
    error = np.mean(np.square(original.astype(np.float64) - decoded), axis=-1)
    mean = float(np.average(error, weights=weight))
    return float(10 * np.log10(255**2 / max(mean, LEAST_ERROR)))
