"""Random transformations of training pictures: pure functions of pixels and a generator."""

from __future__ import annotations

import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in the luma of BT.601."""


def random_crop(pixels: np.ndarray, crop_px: int, *, rng: np.random.Generator) -> np.ndarray:
    """A random square crop, mirrored left to right half the time.

    Args:
      pixels: uint8 [H, W, 3]; sides below `crop_px` are padded by mirroring, repeatedly if needed.
      crop_px: side of the crop.
      rng: source of randomness; three numbers are drawn whatever the size.

    Returns:
      uint8 [crop_px, crop_px, 3], contiguous.
    """
    draws = rng.random(3)
    pixels = pad_to(pixels, crop_px)
    height, width = pixels.shape[:2]
    top = int(draws[0] * (height - crop_px + 1))
    left = int(draws[1] * (width - crop_px + 1))
    crop = pixels[top : top + crop_px, left : left + crop_px]
    return np.ascontiguousarray(crop[:, ::-1] if draws[2] < 0.5 else crop)


def pad_to(pixels: np.ndarray, side_px: int) -> np.ndarray:
    """Pixels [H, W, 3] with sides below `side_px` padded by mirroring, repeatedly if needed."""
    missing = [max(0, side_px - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    pad = [(amount // 2, amount - amount // 2) for amount in missing]
    return np.pad(pixels, [*pad, (0, 0)], mode="symmetric")


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """The picture in greys: luma of BT.601, rounded, in all three channels.

    Args:
      pixels: uint8 [H, W, 3].

    Returns:
      uint8 [H, W, 3], contiguous.
    """
    luma = np.rint(pixels @ np.array(LUMA)).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def random_window(latent: np.ndarray, cells: int, *, rng: np.random.Generator) -> np.ndarray:
    """A random square of whole cells, not mirrored.

    Args:
      latent: [h, w, C] with sides of at least `cells`.
      cells: side of the window.
      rng: source of randomness; two numbers are drawn whatever the size.

    Returns:
      [cells, cells, C], contiguous, of the latent's dtype.
    """
    height, width = latent.shape[:2]
    draws = rng.random(2)
    top = int(draws[0] * (height - cells + 1))
    left = int(draws[1] * (width - cells + 1))
    return np.ascontiguousarray(latent[top : top + cells, left : left + cells])
