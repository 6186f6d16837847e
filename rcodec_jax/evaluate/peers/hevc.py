"""HEVC stills by x265, as bare streams: a HEIF file would have some hundred bytes more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Setting
from rcodec_jax.evaluate.peers import ffmpeg

CRFS = (51, 48, 45, 41, 37, 33, 28)
ENCODER, CONTAINER, SUFFIX = "libx265", "hevc", ".hevc"


def options(crf: float) -> list[str]:
    """Of a still: preset slow, no note of the encoder's version in the file."""
    parameters = f"log-level=none:info=0:keyint=1:crf={crf:g}"
    return ["-preset", "slow", "-x265-params", parameters]


class HevcCoder:
    """x265 over a sweep of its constant rate factor, 4:4:4, so that any size goes."""

    name, model, suffix = "hevc", "", SUFFIX

    def __init__(self, crfs: Sequence[float] = CRFS) -> None:
        if any(not 0 <= crf <= 51 for crf in crfs):
            raise UsageError(f"rate factors of hevc are 0 to 51, got {list(crfs)}")
        ffmpeg.find(ENCODER)
        self.settings = tuple(Setting("crf", float(crf)) for crf in sorted(crfs, reverse=True))

    def encode(self, pixels: np.ndarray, setting: Setting) -> bytes:
        return ffmpeg.encode(
            pixels, ENCODER, options(setting.value), pixel_format="yuv444p", container=CONTAINER
        )

    def decode(self, data: bytes) -> np.ndarray:
        return ffmpeg.decode(data, ENCODER, CONTAINER)
