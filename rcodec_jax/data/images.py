"""Reading pictures of every common kind into sRGB uint8, and writing them.

Pillow decodes; this module decides what the pixels mean: orientation applied, colour profile
converted to sRGB, 16 bits reduced to 8, alpha dropped. Whatever loses something is said in a note.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from rcodec_jax.data.files import atomic_write
from rcodec_jax.errors import UsageError

MAX_PIXELS = 2**28
MAX_SIDE = 2**16

ImageInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0, "optimize": True},
    "WEBP": {"lossless": True},
}
# What Pillow's decoders raise on damaged files (beside OSError, which UnidentifiedImageError is).
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
    ZeroDivisionError, AttributeError, NotImplementedError, AssertionError, struct.error,
)  # fmt: skip
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
            image.load()
            pixels = _to_srgb(image, notes)
        except MemoryError as error:
            raise UsageError(f"{name}: not enough memory for {_size(image)} pixels") from error
        except _DECODER_ERRORS as error:
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
    is_path = isinstance(target, str | os.PathLike)
    chosen = image_format(Path(target) if is_path else None, format)
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(
            buffer, chosen, **_SAVE_OPTIONS.get(chosen, {})
        )
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise UsageError(f"{chosen} cannot hold {width}x{height} pixels: {error}") from error
    if is_path:
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
        if name not in _FORMATS.values():
            known = ", ".join(sorted(set(_FORMATS.values())))
            raise UsageError(f"expected an image format out of {known}, got {format!r}")
        return name
    if path is None or not path.suffix:
        return "PNG"
    if path.suffix.lower() not in _FORMATS:
        known = " ".join(sorted(_FORMATS))
        raise UsageError(f"{path}: expected a file name ending in {known}, got {path.suffix!r}")
    return _FORMATS[path.suffix.lower()]


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
    except _DECODER_ERRORS as error:
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


def _to_srgb(image: Image.Image, notes: list[str]) -> np.ndarray:
    """uint8 [H, W, 3] of a loaded image; adds to the notes what was lost."""
    _note_frames(image, notes)
    profile = image.info.get("icc_profile")
    has_alpha = image.has_transparency_data
    if "16" in _raw_mode(image) or image.mode.startswith("I"):
        notes.append("16 bits a channel were reduced to 8")
    upright = _upright(image)
    if upright.mode == "F":
        raise ValueError("floating point pixels are not supported")
    if upright.mode.startswith("I"):
        upright = Image.fromarray(_reduce_16_bit(np.asarray(upright)))
    if has_alpha:
        notes.append("the alpha channel was dropped")
    colour = _without_alpha(upright)
    rgb = _apply_profile(colour, profile, notes)
    return np.array(rgb, dtype=np.uint8)


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    # MPO is what phones write: one photo, then previews or depth, not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notes.append(f"only the first of {getattr(image, 'n_frames', 'several')} frames was read")


def _raw_mode(image: Image.Image) -> str:
    """Sample layout in the file, which tells 16-bit colour that Pillow hands out as 8."""
    layouts = getattr(image, "rcodec_tile", None) or image.tile
    return " ".join(str(layout[-1]) for layout in layouts)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DECODER_ERRORS:  # unreadable EXIF: the picture itself is fine
        return image


def _reduce_16_bit(values: np.ndarray) -> np.ndarray:
    """Integers 0..65535 to uint8, rounded to nearest."""
    wide = np.clip(values.astype(np.int64), 0, 65535)
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def _without_alpha(image: Image.Image) -> Image.Image:
    """The image as L, RGB, CMYK or LAB: modes that a colour profile can apply to."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode in ("1", "LA", "La"):
        return image.convert("LA").convert("L") if image.mode == "La" else image.convert("L")
    if image.mode in ("P", "PA", "RGBa"):
        # By way of RGBA: a palette may carry its own transparency.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Converts to sRGB by the embedded profile, or plainly where there is none."""
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _cms(image, ImageCms.ImageCmsProfile(lab)) or image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            description = ImageCms.getProfileDescription(source).strip()
        except (ImageCms.PyCMSError, *_DECODER_ERRORS):
            source, description = None, ""
        if source is not None and image.mode == "RGB" and description.startswith("sRGB"):
            return image
        converted = None if source is None else _cms(image, source)
        if converted is None:
            notes.append("the embedded colour profile is unusable and was ignored")
        else:
            notes.append(f"converted to sRGB from the profile {description or 'without a name'!r}")
            return converted
    return image.convert("RGB")


def _cms(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        return ImageCms.profileToProfile(
            image,
            source,
            target,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, *_DECODER_ERRORS):
        return None


def _size(image: Image.Image) -> str:
    return f"{image.size[0]}x{image.size[1]}"
