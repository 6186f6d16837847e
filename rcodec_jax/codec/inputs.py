"""What users hand to the codec, as arrays: paths, Pillow pictures, arrays of any library."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures import kept
from rcodec_jax.data.pictures.colour import essential_exif
from rcodec_jax.data.pictures.formats import DECODER_ERRORS
from rcodec_jax.data.pictures.images import Picture, read_image
from rcodec_jax.data.pictures.masks import read_mask
from rcodec_jax.errors import UsageError


class Array(Protocol):
    """An array of any library that NumPy can read: NumPy's, JAX's, PyTorch's on the CPU."""

    def __array__(self, *args: Any, **options: Any) -> Any: ...


PictureInput = Array | Image.Image | Picture | str | os.PathLike[str]
"""uint8 [H, W, 3], a Pillow picture, what `read_image` gives, or a path."""

ImportanceInput = Array | Image.Image | str | os.PathLike[str]
"""Floats [H, W] in 0..1, or a mask: a Pillow picture or a path."""

FileInput = bytes | bytearray | memoryview | str | os.PathLike[str]
"""An rcodec file's bytes, or the path of one."""

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def picture_of(image: PictureInput) -> Picture:
    """A picture as pixels.

    Paths and Pillow pictures go the way of `read_image`: upright, converted to sRGB, laid on white.

    Raises:
      UsageError: unreadable, or an array that is not uint8 [H, W, 3].
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        picture = read_image(_as_file(image))
        # Pillow writes text of EXIF in ASCII.
        return dataclasses.replace(picture, metadata=kept.metadata_of(image))
    pixels = _as_array(image, "a picture uint8 [H, W, 3]")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        hints = [hint for hint in (_type_hint(pixels.dtype), _shape_hint(pixels.shape)) if hint]
        way_out = f" ({'; '.join(hints)})" if hints else ""
        raise UsageError(
            f"expected a picture uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}{way_out}"
        )
    return Picture(pixels)


def _type_hint(dtype: np.dtype[Any]) -> str:
    """How an array x becomes one of uint8, "" where that is not clear."""
    if dtype.kind == "f":
        return "0..1 as bytes: (x * 255).round().astype(numpy.uint8)"
    if dtype.kind == "b":
        return "as bytes: x.astype(numpy.uint8) * 255"
    return "16 bits as bytes: (x / 257).round().astype(numpy.uint8)" if dtype == np.uint16 else ""


def _shape_hint(shape: tuple[int, ...]) -> str:
    """How an array x becomes one of [H, W, 3], "" where that is not clear.

    A grey [H, W] is not taken as it is: a row of a picture, by mistake, has two axes as well.
    """
    if len(shape) == 4:
        return "one picture at a time: x[0], or encode_many(list(x))"
    if len(shape) == 2:
        return "grey: numpy.repeat(x[..., None], 3, -1), or PIL.Image.fromarray(x)"
    if len(shape) != 3 or shape[2] == 3:
        return ""
    if shape[0] in (1, 3, 4) and shape[2] not in (1, 4):
        return "channels come last here: x.transpose(1, 2, 0)"
    if shape[2] == 1:
        return "grey: numpy.repeat(x, 3, -1)"
    drops = "with alpha: x[..., :3] drops it, PIL.Image.fromarray(x) is composited on white"
    return drops if shape[2] == 4 else ""


def metadata_of(metadata: bool | Mapping[str, str], picture: Picture) -> Mapping[str, str]:
    """What a file is to say of its picture: what the picture says, if that is asked for.

    Raises:
      UsageError: neither a bool nor a mapping.
    """
    if isinstance(metadata, bool):
        return picture.metadata if metadata else {}
    if not isinstance(metadata, Mapping):
        raise UsageError(f"expected metadata as True, False or a mapping, got {metadata!r}")
    return metadata


def importance_of(
    importance: ImportanceInput | None, shape: tuple[int, int], notes: list[str]
) -> np.ndarray | None:
    """An importance map as numbers; its size and range are checked where it is used.

    Args:
      importance: masks are read as `read_mask` does.
      shape: (height, width) of the picture, upright.
      notes: what was assumed about a mask is added here.

    Raises:
      UsageError: unreadable, or a mask of another size.
    """
    if importance is None:
        return None
    if isinstance(importance, str | os.PathLike):
        return read_mask(importance, shape, notes=notes)
    if isinstance(importance, Image.Image):
        return read_mask(_as_file(importance), shape, notes=notes)
    return _as_array(importance, "importance [H, W]")


def file_of(data: FileInput) -> bytes:
    """An rcodec file as bytes.

    Raises:
      UsageError: a path that cannot be read, or neither bytes nor a path.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, str | os.PathLike):
        raise UsageError(f"expected bytes or a path, got {type(data).__name__}")
    try:
        return Path(data).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{os.fspath(data)}: expected an rcodec file, got: {reason}") from error


def _as_file(image: Image.Image) -> bytes:
    """A Pillow picture without loss, so that one reader decides what its pixels mean."""
    buffer = io.BytesIO()
    try:
        image.load()
        names = [name for name in ("icc_profile", "transparency") if name in image.info]
        info = {name: image.info[name] for name in names}
        exif = essential_exif(image)
        if image.mode in _PNG_MODES:
            image.save(buffer, "PNG", compress_level=0, exif=exif, **info)
        else:
            image.save(buffer, "TIFF", compression="raw", exif=exif, **info)
    except DECODER_ERRORS as error:
        raise UsageError(f"expected a picture, got one of mode {image.mode}: {error}") from error
    return buffer.getvalue()


def _as_array(value: Any, expected: str) -> np.ndarray:
    """An array on the host. Of PyTorch's those on the CPU alone: NumPy refuses the others."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise UsageError(f"expected {expected}, a path or a Pillow picture, got bytes")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"expected {expected} on the CPU, got: {error}") from error
    if array.dtype == object:
        raise UsageError(f"expected {expected}, got {type(value).__name__}")
    return array
