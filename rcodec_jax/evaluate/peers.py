"""JPEG and WebP through Pillow, on the same pictures, every byte of the file counted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Setting

# From the worst either can do to above what rcodec reaches at .35 bpp on photographs, close enough
# together that interpolation between points does not matter.
JPEG_QUALITIES = (2, 4, 6, 8, 10, 13, 17, 22, 30, 40, 55, 70)
WEBP_QUALITIES = (0, 2, 5, 10, 16, 25, 35, 50, 65, 80)


class PillowCoder:
    """A format Pillow writes, over a sweep of its quality setting."""

    def __init__(self, name: str, format: str, qualities: Sequence[int], **options: Any) -> None:
        if any(not 0 <= quality <= 100 for quality in qualities):
            raise UsageError(f"qualities of {name} are 0 to 100, got {list(qualities)}")
        self.name = name
        self.settings = tuple(Setting("quality", float(q)) for q in sorted(qualities))
        self._format, self._options = format, options

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(
            buffer, self._format, quality=int(setting.value), **self._options
        )
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


def jpeg(qualities: Sequence[int] = JPEG_QUALITIES) -> PillowCoder:
    """Baseline JPEG, 4:2:0 (Pillow's default), Huffman tables optimised for the picture."""
    return PillowCoder("jpeg", "JPEG", qualities, optimize=True)


def webp(qualities: Sequence[int] = WEBP_QUALITIES) -> PillowCoder:
    """Lossy WebP at its slowest method (6). Raises UsageError if Pillow lacks WebP."""
    if not features.check("webp"):
        raise UsageError("this Pillow was built without WebP: leave the peer out")
    return PillowCoder("webp", "WEBP", qualities, method=6)


PEERS = {"jpeg": jpeg, "webp": webp}


def make_peers(names: Sequence[str]) -> list[PillowCoder]:
    """Peers by name with their default sweeps. Raises UsageError for an unknown name."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(f"peers are {', '.join(PEERS)}, got {', '.join(unknown)}")
    return [PEERS[name]() for name in names]
