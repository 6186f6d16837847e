"""Other codecs through Pillow, on the same pictures, every byte of the file counted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import MissingPeerError, Setting

# From the worst either can do to above what rcodec reaches at .36 bpp on photographs, close enough
# together that interpolation between points does not matter: half as many again change BD-rates by
# .4 % at most.
JPEG_QUALITIES = (2, 4, 6, 8, 11, 16, 24, 40, 70)
WEBP_QUALITIES = (0, 3, 8, 16, 28, 45, 62, 80)
AVIF_QUALITIES = (4, 10, 17, 25, 35, 47, 60)
JPEG2000_RATES_BPP = (0.05, 0.08, 0.12, 0.16, 0.22, 0.3, 0.4, 0.55, 0.75, 1.0)
JXL_QUALITIES = (0, 2, 5, 10, 15, 20, 27, 37, 50, 70)


class PillowCoder:
    """A format Pillow writes, over a sweep of its quality setting."""

    model = ""

    def __init__(
        self, name: str, format: str, suffix: str, qualities: Sequence[int], **options: Any
    ) -> None:
        if any(not 0 <= quality <= 100 for quality in qualities):
            raise UsageError(f"qualities of {name} are 0 to 100, got {list(qualities)}")
        self.name, self.suffix = name, suffix
        self.settings = tuple(Setting("quality", float(q)) for q in sorted(qualities))
        self._format, self._options = format, options

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        return _save(pixels, self._format, quality=int(setting.value), **self._options)

    def decode(self, data: bytes) -> np.ndarray:
        return _open(data)


class Jpeg2000Coder:
    """JPEG 2000 (9-7 wavelet, colours decorrelated) at rates, headers of some 100 bytes on top."""

    name, model, suffix = "jpeg2000", "", ".jp2"

    def __init__(self, rates_bpp: Sequence[float] = JPEG2000_RATES_BPP) -> None:
        if any(rate <= 0 for rate in rates_bpp):
            raise UsageError(f"rates are positive bits per pixel, got {list(rates_bpp)}")
        self.settings = tuple(Setting("bpp", rate) for rate in sorted(rates_bpp))

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        # OpenJPEG counts in parts of the raw picture, of 24 bits a pixel.
        layers = [24 / setting.value]
        return _save(
            pixels,
            "JPEG2000",
            quality_mode="rates",
            quality_layers=layers,
            irreversible=True,
            mct=1,
        )

    def decode(self, data: bytes) -> np.ndarray:
        return _open(data)


def _save(pixels: np.ndarray, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format, **options)
    except (OSError, ValueError) as error:  # a picture above the format's limits, for instance
        raise UsageError(f"{format} cannot code this picture: {error}") from error
    return buffer.getvalue()


def _open(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def jpeg(qualities: Sequence[int] = JPEG_QUALITIES) -> PillowCoder:
    """Baseline JPEG, 4:2:0 (Pillow's default), Huffman tables optimised for the picture."""
    return PillowCoder("jpeg", "JPEG", ".jpg", qualities, optimize=True)


def webp(qualities: Sequence[int] = WEBP_QUALITIES) -> PillowCoder:
    """Lossy WebP at its slowest method (6). Raises MissingPeerError if Pillow lacks WebP."""
    if not features.check("webp"):
        raise MissingPeerError("this Pillow was built without WebP: leave the peer out")
    return PillowCoder("webp", "WEBP", ".webp", qualities, method=6)


def avif(qualities: Sequence[int] = AVIF_QUALITIES) -> PillowCoder:
    """AVIF at Pillow's default speed (6), 4:2:0. Raises MissingPeerError if Pillow lacks AVIF."""
    if not features.check("avif"):
        raise MissingPeerError(
            "this Pillow was built without AVIF (11.3 has it): leave the peer out"
        )
    return PillowCoder("avif", "AVIF", ".avif", qualities, speed=6)


def jxl(qualities: Sequence[int] = JXL_QUALITIES) -> PillowCoder:
    """JPEG XL at effort 7. Raises MissingPeerError if its plug-in for Pillow is not installed."""
    try:
        import pillow_jxl  # noqa: F401  registers the format
    except ImportError as error:
        raise MissingPeerError(
            "JPEG XL needs a plug-in for Pillow: pip install 'rcodec-jax[peers]'"
        ) from error
    return PillowCoder("jxl", "JXL", ".jxl", qualities, effort=7)


def jpeg2000(rates_bpp: Sequence[float] = JPEG2000_RATES_BPP) -> Jpeg2000Coder:
    """JPEG 2000 by OpenJPEG. Raises MissingPeerError if Pillow lacks it."""
    if not features.check("jpg_2000"):
        raise MissingPeerError("this Pillow was built without JPEG 2000: leave the peer out")
    return Jpeg2000Coder(rates_bpp)
