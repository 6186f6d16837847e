"""Reading pictures of every common kind into sRGB uint8, and writing them.

Pillow decodes; this module decides what the pixels mean: orientation applied, colour profile
converted to sRGB, 16 bits reduced to 8, alpha dropped. Whatever loses something is said in a note.
"""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from rcodec_jax.data.colour import DECODER_ERRORS, raw_mode, to_srgb
from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write

MAX_PIXELS = 2**28
MAX_SIDE = 2**16

ImageInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""What Pillow calls the format of files that end so."""

_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0, "optimize": True},
    "WEBP": {"lossless": True},
}
# Pillow's own limit is a module global; it is lifted under this lock while a header is read, since
# the limits of this module are checked right after and before any pixel is decoded.
_OPEN_LOCK = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
      pixels: uint8 [H, W, 3], sRGB, upright.
      notes: sentences for the user on what was changed or lost while reading.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read_image(
    source: ImageInput, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> Picture:
    """Reads one picture from a path, bytes or a binary file.

    Args:
      source: path, encoded bytes, or an open binary file (need not be seekable).
      max_pixels: largest width times height, checked before decoding.
      max_side: largest width or height.

    Raises:
      UsageError: missing, unreadable, not an image, damaged, or above the limits.
    """
    image, name = open_image(source, max_pixels=max_pixels, max_side=max_side)
    notes: list[str] = []
    with image:
        try:
            layout = raw_mode(image)
            image.load()
            pixels = to_srgb(image, layout, notes)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        except MemoryError as error:
            raise UsageError(f"{name}: not enough memory for {_size(image)} pixels") from error
        except DECODER_ERRORS as error:
            raise UsageError(f"{name}: damaged {image.format or 'image'}: {error}") from error
    return Picture(pixels, tuple(notes))


def write_image(
    target: str | os.PathLike[str] | BinaryIO, pixels: np.ndarray, format: str | None = None
) -> None:
    """Writes a picture; a path is replaced atomically.

    PNG, BMP, PPM, TIFF and WebP are written without loss, JPEG at quality 95 with full chroma.

    Args:
      target: path or open binary file.
      pixels: uint8 [H, W, 3] or [H, W].
      format: "PNG", "JPEG", "WEBP", "BMP", "PPM" or "TIFF"; by default from the suffix of the
        path, PNG for a file without a name.

    Raises:
      UsageError: unknown format, wrong array, or the path cannot be written.
    """
    pixels = np.asarray(pixels)
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise UsageError(
            f"expected pixels uint8 [H, W, 3] or [H, W], got {pixels.dtype} {list(pixels.shape)}"
        )
    if pixels.size == 0:
        raise UsageError(f"expected at least one pixel, got shape {list(pixels.shape)}")
    path = Path(target) if isinstance(target, str | os.PathLike) else None
    chosen = image_format(path, format)
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(
            buffer, chosen, **_SAVE_OPTIONS.get(chosen, {})
        )
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise UsageError(f"{chosen} cannot hold {width}x{height} pixels: {error}") from error
    if isinstance(target, str | os.PathLike):
        atomic_write(target, buffer.getvalue())
    else:
        target.write(buffer.getvalue())


def image_format(path: Path | None, format: str | None = None) -> str:
    """Name of the format to write: the one asked for, else by suffix, else PNG.

    Raises:
      UsageError: a format or suffix that is not written here.
    """
    if format is not None:
        name = {"JPG": "JPEG", "TIF": "TIFF"}.get(format.upper(), format.upper())
        if name not in FORMATS.values():
            known = ", ".join(sorted(set(FORMATS.values())))
            raise UsageError(f"expected an image format out of {known}, got {format!r}")
        return name
    if path is None or not path.suffix:
        return "PNG"
    if path.suffix.lower() not in FORMATS:
        known = " ".join(sorted(FORMATS))
        raise UsageError(f"{path}: expected a file name ending in {known}, got {path.suffix!r}")
    return FORMATS[path.suffix.lower()]


def open_image(
    source: ImageInput, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> tuple[Image.Image, str]:
    """Opens a picture without decoding it, and checks its size.

    Returns:
      The lazy Pillow image and a name for messages.

    Raises:
      UsageError: missing, unreadable, not an image, or above the limits.
    """
    stream: str | io.BytesIO
    if isinstance(source, bytes | bytearray | memoryview):
        stream, name = io.BytesIO(bytes(source)), "image"
    elif isinstance(source, str | os.PathLike):
        stream = name = os.fspath(source)
    else:
        name = str(getattr(source, "name", "image"))
        try:
            stream = io.BytesIO(source.read())
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error}") from error
    try:
        with _OPEN_LOCK:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(stream)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except FileNotFoundError as error:
        raise UsageError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise UsageError(f"{name}: expected an image file, got a folder") from error
    except PermissionError as error:
        raise UsageError(f"{name}: permission denied") from error
    except DECODER_ERRORS as error:
        raise UsageError(
            f"{name}: not an image that can be read (expected PNG, JPEG, WebP, TIFF, BMP, ...)"
        ) from error
    width, height = image.size
    if width < 1 or height < 1 or max(width, height) > max_side or width * height > max_pixels:
        image.close()
        raise UsageError(
            f"{name}: expected an image of 1 to {max_pixels} pixels and sides up to {max_side}, "
            f"got {width}x{height}"
        )
    return image, name


def _size(image: Image.Image) -> str:
    return f"{image.size[0]}x{image.size[1]}"
