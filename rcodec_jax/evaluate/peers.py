"""Other codecs through Pillow, on the same pictures, every byte of the file counted."""

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
AVIF_QUALITIES = (4, 8, 12, 16, 20, 25, 32, 40, 50, 60)
JXL_QUALITIES = (0, 2, 5, 10, 15, 20, 27, 35, 45, 55, 65, 75)


class PillowCoder:
    """A format Pillow writes, over a sweep of its quality setting."""

    model = ""

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


def avif(qualities: Sequence[int] = AVIF_QUALITIES) -> PillowCoder:
    """AVIF at Pillow's default speed (6), 4:2:0. Raises UsageError if Pillow lacks AVIF."""
    if not features.check("avif"):
        raise UsageError("this Pillow was built without AVIF (11.3 has it): leave the peer out")
    return PillowCoder("avif", "AVIF", qualities, speed=6)


def jxl(qualities: Sequence[int] = JXL_QUALITIES) -> PillowCoder:
    """JPEG XL at effort 7. Raises UsageError if its plug-in for Pillow is not installed."""
    try:
        import pillow_jxl  # noqa: F401  registers the format
    except ImportError as error:
        raise UsageError(
            "JPEG XL needs a plug-in for Pillow: pip install 'rcodec-jax[peers]'"
        ) from error
    return PillowCoder("jxl", "JXL", qualities, effort=7)


PEERS = {"jpeg": jpeg, "webp": webp, "avif": avif, "jxl": jxl}


def make_peers(names: Sequence[str]) -> list[PillowCoder]:
    """Peers by name with their default sweeps. Raises UsageError for an unknown name."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(f"peers are {', '.join(PEERS)}, got {', '.join(unknown)}")
    return [PEERS[name]() for name in names]
