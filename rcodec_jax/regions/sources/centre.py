"""Towards the middle, where most photographers put what matters: "centre"."""

from __future__ import annotations

import numpy as np

from rcodec_jax.regions.sources.arguments import no_argument


def importance(pixels: np.ndarray, argument: str) -> np.ndarray:
    """1 in the middle, falling as a Gaussian whose deviation is a quarter of the sides."""
    no_argument("centre", argument)
    rows, columns = (
        np.exp(-8 * ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) ** 2)
        for size in pixels.shape[:2]
    )
    return rows[:, None] * columns[None]
