"""What the shipped model makes of smooth pictures, where eyes see faults first."""

from __future__ import annotations

import numpy as np
import pytest

import rcodec_jax

SIDE = 256
Y, X = np.mgrid[:SIDE, :SIDE]
ZERO = np.zeros_like(X)
GRAIN = np.random.default_rng(1).normal(0, 1, (SIDE, SIDE))
WALL = 125 + 6 * np.sin(X / 48) + 6 * np.cos(Y / 61) + GRAIN
SMOOTH = {
    "black": (ZERO, ZERO, ZERO),
    "grey": (ZERO + 128, ZERO + 128, ZERO + 128),
    "green": (ZERO, ZERO + 255, ZERO),
    "gradient": (X, Y, (X + Y) / 2),
    "wall": (WALL, WALL, WALL),
}


@pytest.fixture(scope="module")
def codec() -> rcodec_jax.Codec:
    return rcodec_jax.load()


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_pictures_stay_smooth(codec: rcodec_jax.Codec, name: str) -> None:
    """At least 30 dB at quality 10 and 40 at 50, and no worse for more bytes."""
    image = np.stack(SMOOTH[name], axis=-1).astype(np.uint8)
    found = []
    for quality in (10, 50, 90):
        data = codec.encode(image, quality=quality)
        error = np.square(codec.decode(data).astype(float) - image).mean()
        found.append(10 * np.log10(255**2 / max(error, 1e-3)))
    assert found[0] >= 30 and found[1] >= 40
    assert found[0] - 0.5 < found[1] and found[1] - 0.5 < found[2]
