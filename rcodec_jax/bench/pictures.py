"""A picture to time codecs with, the same on every machine."""

from __future__ import annotations

import numpy as np


def synthetic(height_px: int, width_px: int, *, seed: int = 0) -> np.ndarray:
    """A picture with the statistics of a photo: 1/f noise and a few flat shapes with sharp edges.

    Args:
      height_px: its height, at least 1.
      width_px: its width, at least 1.
      seed: of all random choices.

    Returns:
      uint8 [height_px,width_px,3].
    """
    rng = np.random.default_rng(seed)
    frequency_y = np.fft.fftfreq(height_px)[:, None]
    frequency_x = np.fft.rfftfreq(width_px)[None, :]
    falloff = 1 / np.maximum(np.hypot(frequency_y, frequency_x), 1 / max(height_px, width_px))
    layers = []
    for _ in range(4):
        spectrum = np.fft.rfft2(rng.standard_normal((height_px, width_px))) * falloff
        layer = np.fft.irfft2(spectrum, s=(height_px, width_px))
        layers.append(layer / max(layer.std(), 1e-9))
    # Channels of photos are strongly correlated: a common layer and a little of their own.
    pixels = 128 + 40 * layers[0][..., None] + 12 * np.stack(layers[1:], axis=-1)
    y, x = np.mgrid[:height_px, :width_px]
    for _ in range(6):
        centre_y, centre_x = rng.random() * height_px, rng.random() * width_px
        radius = (0.05 + 0.15 * rng.random()) * min(height_px, width_px)
        inside = np.hypot(y - centre_y, x - centre_x) < radius
        pixels[inside] = 0.25 * pixels[inside] + 0.75 * rng.integers(20, 236, 3)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
