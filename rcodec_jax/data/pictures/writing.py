"""Writing pictures, in the format that a file's extension names."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, features

from rcodec_jax.data.pictures import kept, provenance
from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Pillow's name of the format, by extension."""

_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0, "optimize": True},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    # Decoded photos take 3 % more bytes than with Pillow's 6, and two fifths of the time.
    "PNG": {"compress_level": 3},
}


def write_image(
    target: str | os.PathLike[str] | BinaryIO,
    pixels: np.ndarray,
    format: str | None = None,
    *,
    marked: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a picture; a path is replaced atomically.

    PNG, BMP, PPM, TIFF and WebP are written without loss, JPEG at quality 95 and AVIF at quality 90
    with full chroma.

    Args:
      target: path or open binary file.
      pixels: uint8 [H, W, 3] or [H, W].
      format: "PNG", "JPEG", "WEBP", "AVIF", "BMP", "PPM" or "TIFF"; by default from the extension
        of the path, PNG for an open file.
      marked: whether its metadata say that it is partly generated, see `provenance`; BMP and PPM
        have none.
      metadata: date taken, copyright and artist for EXIF, see `kept`; BMP and PPM have none.

    Raises:
      UsageError: unknown format, a path without extension, wrong array, or the path cannot be
        written.
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
    options: dict[str, Any] = dict(_SAVE_OPTIONS.get(chosen, {}))
    options |= provenance.save_options(chosen) if marked else {}
    if metadata and chosen == "TIFF":
        options["tiffinfo"] = options.get("tiffinfo", {}) | kept.tiff_tags(metadata)
    elif metadata and chosen not in ("BMP", "PPM"):
        options["exif"] = kept.exif_of(metadata)
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, chosen, **options)
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise UsageError(f"{chosen} cannot hold {width}x{height} pixels: {error}") from error
    if isinstance(target, str | os.PathLike):
        atomic_write(target, buffer.getvalue())
    else:
        target.write(buffer.getvalue())


def image_format(path: Path | None, format: str | None = None) -> str:
    """Name of the format to write: the one asked for, else by extension; PNG without a path.

    Raises:
      UsageError: a format or extension that is not written here, or a path without extension.
    """
    if format is not None:
        name = {"JPG": "JPEG", "TIF": "TIFF"}.get(format.upper(), format.upper())
        if name not in FORMATS.values():
            known = ", ".join(sorted(set(FORMATS.values())))
            raise UsageError(f"expected one of the image formats {known}, got {format!r}")
    elif path is None:
        name = "PNG"
    elif path.suffix.lower() not in FORMATS:
        known, given = " ".join(sorted(FORMATS)), repr(path.suffix) if path.suffix else "none"
        raise UsageError(f"{path}: expected a file name with extension {known}, got {given}")
    else:
        name = FORMATS[path.suffix.lower()]
    if name == "AVIF" and not features.check("avif"):
        raise UsageError("AVIF: expected Pillow 11.3 or later with AVIF support, got one without")
    return name
