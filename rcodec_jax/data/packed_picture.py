"""Pictures as a pack stores them: encoded, and the same pixels in every decoder.

A stored picture is upright sRGB of 8 bits a channel without alpha, so that a program that knows
nothing of orientation tags, colour profiles, CMYK or 16 bits reads what `read_image` reads. Most
files are that already, and their bytes are kept. Others are encoded anew: what was JPEG as JPEG of
quality 95 with full chroma, anything else as PNG without loss.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures.images import decode_image
from rcodec_jax.data.pictures.writing import write_image
from rcodec_jax.errors import UsageError

_JPEG = ("JPEG", "MPO")
_KEPT = (*_JPEG, "PNG", "WEBP")


@dataclass(frozen=True)
class PlainPicture:
    """An encoded picture.

    Attributes:
      data: JPEG, PNG or WebP.
      height_px, width_px: of what it decodes to.
      changed: whether it was encoded anew.
    """

    data: bytes
    height_px: int
    width_px: int
    changed: bool


def plain_picture(data: bytes, *, max_side: int | None = None) -> PlainPicture:
    """Checks an encoded picture by decoding it, and encodes it anew where it must be.

    Args:
      data: a file of any kind that `read_image` reads.
      max_side: larger pictures are scaled down (Lanczos) until their longer side is this long.

    Raises:
      UsageError: it is not an image, or damaged; the reason in words, without a name.
      MemoryError: for its pixels.
    """
    try:
        decoded = decode_image(data)
    except UsageError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        raise UsageError(str(error).removeprefix("image: ")) from None
    image, pixels = decoded.image, decoded.picture.pixels
    suffix = "JPEG" if image.format in _JPEG else "PNG"
    kept = decoded.is_plain and image.format in _KEPT and image.mode in ("RGB", "L")
    kept = kept and np.array_equal(_as_rgb(image), pixels)
    height, width = pixels.shape[:2]
    if max_side is not None and max(height, width) > max_side:
        pixels, kept = _scale_down(pixels, max_side), False
        height, width = pixels.shape[:2]
    if kept:
        return PlainPicture(data, height, width, changed=False)
    buffer = io.BytesIO()
    write_image(buffer, pixels, suffix)
    return PlainPicture(buffer.getvalue(), height, width, changed=True)


def _as_rgb(image: Image.Image) -> np.ndarray:
    """What a program sees that only decodes, uint8 [H, W, 3]; grey is repeated, as TFDS does."""
    values = np.asarray(image)
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def _scale_down(pixels: np.ndarray, max_side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    ratio = max_side / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
