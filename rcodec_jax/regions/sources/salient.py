"""What stands out: "saliency"."""

from __future__ import annotations

import numpy as np

from rcodec_jax.regions.importance import saliency
from rcodec_jax.regions.sources.arguments import no_argument


def importance(pixels: np.ndarray, argument: str) -> np.ndarray:
    """See `saliency`."""
    no_argument("saliency", argument)
    return saliency(pixels)
