"""The nano bundle: a codec small enough to test what the page does with it."""

from __future__ import annotations

from pathlib import Path

import jax  # noqa: F401  its import draws unseeded numbers, which tests may not
import numpy as np
import pytest

from rcodec_jax.codec.codec import Codec, load

NANO = Path(__file__).parents[1] / "golden" / "nano"


@pytest.fixture(scope="session")
def codec() -> Codec:
    return load(NANO)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photo, uint8 [120,160,3]."""
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[20:140, 140:300])
