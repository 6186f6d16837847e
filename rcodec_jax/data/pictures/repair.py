"""What can be had of pictures that are cut or damaged: the same file, its end made up."""

from __future__ import annotations

import io

from rcodec_jax.data.pictures import png

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "PPM")
"""Formats of which the beginning can be read without the rest."""

_JPEG_END = b"\xff\xd9"
_MAX_PADDING = 2**30
_TEXT_STARTS = (b"P1", b"P2", b"P3")
"""Of a PPM whose samples are numbers in text."""


def mended(format: str, data: bytes, size: tuple[int, int]) -> bytes | None:
    """A file that a decoder reads to its end.

    Args:
      format: Pillow's name of it.
      data: the file.
      size: width and height that it declares, known to be within the limits.

    Returns:
      None where nothing can be done.
    """
    if format in ("JPEG", "MPO"):
        return data + _JPEG_END
    if format == "PNG":
        return png.mended(data, png.walk(io.BytesIO(data)))
    if format in ("BMP", "PPM"):
        count = size[0] * size[1]
        if data[:2] in _TEXT_STARTS:
            return data + b" 0" * min(count * 3, _MAX_PADDING // 2)
        return data + bytes(min(count * 6, _MAX_PADDING))
    return None
