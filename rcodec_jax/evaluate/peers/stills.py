"""Stills of video codecs as bare streams: HEIF or AVIF files would have some hundred bytes more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Setting
from rcodec_jax.evaluate.peers import ffmpeg

HEVC_FACTORS = (51, 48, 45, 41, 37, 33, 28)
AV1_FACTORS = (63, 57, 52, 47, 42, 36, 29)


class StillCoder:
    """A video encoder over a sweep of its constant rate factor.

    Args:
      name: of the peer.
      encoder: as ffmpeg calls it.
      container: that of a bare stream; its name ends the files too.
      pixel_format: what the encoder is given.
      options: of the encoder at a rate factor.
      factors: the sweep; worst: the coarsest there is.

    Raises:
      UsageError: a factor that there is none of.
      MissingPeerError: no ffmpeg with this encoder.
    """

    model = ""

    def __init__(
        self,
        name: str,
        encoder: str,
        container: str,
        pixel_format: str,
        options: Callable[[float], list[str]],
        factors: Sequence[float],
        worst: int,
    ) -> None:
        if any(not 0 <= factor <= worst for factor in factors):
            raise UsageError(f"rate factors of {name} are 0 to {worst}, got {list(factors)}")
        ffmpeg.find(encoder)
        self.name, self.suffix = name, f".{container}"
        self.settings = tuple(Setting("crf", float(f)) for f in sorted(factors, reverse=True))
        self._encoder, self._container = encoder, container
        self._pixel_format, self._options = pixel_format, options

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        return ffmpeg.encode(
            pixels,
            self._encoder,
            self._options(setting.value),
            pixel_format=self._pixel_format,
            container=self._container,
        )

    def decode(self, data: bytes) -> np.ndarray:
        return ffmpeg.decode(data, self._encoder, self._container)


def x265_options(crf: float) -> list[str]:
    """Of a still: preset slow, no note of the encoder's version in the file."""
    parameters = f"log-level=none:info=0:keyint=1:crf={crf:g}"
    return ["-preset", "slow", "-x265-params", parameters]


def svtav1_options(crf: float) -> list[str]:
    """Of a still, preset 4."""
    return ["-preset", "4", "-crf", f"{crf:g}", "-svtav1-params", "avif=1"]


def hevc(factors: Sequence[float] = HEVC_FACTORS) -> StillCoder:
    """x265, 4:4:4."""
    return StillCoder("hevc", "libx265", "hevc", "yuv444p", x265_options, factors, 51)


def av1(factors: Sequence[float] = AV1_FACTORS) -> StillCoder:
    """SVT-AV1, 4:2:0, which is all that it knows."""
    return StillCoder("av1", "libsvtav1", "obu", "yuv420p", svtav1_options, factors, 63)
