"""What a file declares of its samples besides what Pillow hands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rcodec_jax.data import boxes
from rcodec_jax.data.png import Png


class Declared(NamedTuple):
    """What a file declares.

    Attributes:
      bits: that a channel has, or that have a meaning; None where it does not say.
      profile: an ICC profile that Pillow does not see.
    """

    bits: int | None = None
    profile: bytes | None = None


def declared(format: str | None, chunks: Png | None, read: Callable[[], bytes]) -> Declared:
    """Reads what a file declares.

    Args:
      format: Pillow's name of it.
      chunks: of a PNG.
      read: gives the file's bytes.
    """
    if chunks is not None:
        return Declared(chunks.significant_bits)
    if format == "AVIF":
        header = boxes.avif_header(read())
        return Declared(header.bits, header.profile)
    if format == "JPEG2000":
        header = boxes.jpeg2000_header(read())
        return Declared(header.bits, header.profile)
    return Declared()
