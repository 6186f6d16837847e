"""Video encoders that take a region: its blocks get a quantiser offset (ffmpeg's `addroi`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import MissingPeerError, Rival, present
from rcodec_jax.evaluate.peers import ffmpeg, stills

OFFSETS = (-0.1, -0.2, -0.3)
"""Strengths that are tried: offsets in parts of the encoder's quantiser range."""
BLOCK_PX = 16
_SHARE = 0.3
"""A block belongs to the region if at least this share of it does."""
_FINE_OFFSET = 0.06
_FINE_STEPS = 5
"""What rate factors leave of the bytes, as one of them is 15 % of a small still, goes into the
region: its offset may be stronger by this much, found in so many halvings."""


@dataclass(frozen=True)
class RegionEncoder:
    """A still encoder with whole rate factors from `best` (most bytes) to `worst` (fewest).

    Attributes:
      options: of the encoder, from a rate factor.
    """

    name: str
    encoder: str
    container: str
    suffix: str
    pixel_format: str
    options: Callable[[float], list[str]]
    best: int
    worst: int
    strengths: tuple[float, ...] = OFFSETS

    def encode(self, pixels: np.ndarray, mask: np.ndarray, offset: float, factor: float) -> bytes:
        """A file of uint8 [H, W, 3]; `mask` float [H, W] in 0..1, `offset` in -1..0."""
        return ffmpeg.encode(
            pixels,
            self.encoder,
            self.options(factor),
            pixel_format=self.pixel_format,
            container=self.container,
            filters=roi_filters(mask, offset),
        )

    def decode(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return ffmpeg.decode(data, self.encoder, self.container)

    def fit(self, pixels: np.ndarray, mask: np.ndarray, offset: float, size_bytes: int) -> bytes:
        """The largest file found of at most `size_bytes`, with `offset` or a little more.

        Raises:
          UsageError: none is as small as that.
        """
        low, high = self.best, self.worst
        found = self.encode(pixels, mask, offset, high)
        if len(found) > size_bytes:
            raise UsageError(f"{self.name} needs {len(found)} bytes at least, got {size_bytes}")

        def fits(offset: float, factor: int) -> bool:
            nonlocal found
            data = self.encode(pixels, mask, offset, factor)
            if len(data) > size_bytes:
                return False
            found = max(found, data, key=len)
            return True

        while abs(high - low) > 1:
            factor = (low + high) // 2
            low, high = (low, factor) if fits(offset, factor) else (factor, high)
        enough, too_much = offset, max(offset - _FINE_OFFSET, -1.0)
        for _ in range(_FINE_STEPS):
            middle = (enough + too_much) / 2
            enough, too_much = (middle, too_much) if fits(middle, high) else (enough, middle)
        return found


def _svt_options(factor: float) -> list[str]:
    *options, parameters = stills.svtav1_options(factor)
    return [*options, f"{parameters}:enable-roi-map=1"]


ENCODERS = {
    "x265": RegionEncoder(
        "x265", "libx265", "hevc", ".hevc", "yuv444p", stills.x265_options, 5, 51
    ),
    "svtav1": RegionEncoder("svtav1", "libsvtav1", "ivf", ".ivf", "yuv420p", _svt_options, 5, 63),
}


def make_encoders(
    names: Sequence[str], others: Mapping[str, Rival]
) -> tuple[list[Rival], list[str]]:
    """Encoders by name, and a line for each that is missing here or ignores regions.

    Args:
      others: what may be named besides `ENCODERS`.

    Raises UsageError for an unknown name.
    """
    known: dict[str, Rival] = {**ENCODERS, **others}
    return present(names, known, _with_regions, "peers for masks")


def _with_regions(encoder: Rival) -> Rival:
    if isinstance(encoder, RegionEncoder):
        check_regions(encoder)
    return encoder


def check_regions(encoder: RegionEncoder) -> None:
    """Raises MissingPeerError if the encoder is missing or codes the same with and without regions.

    A wrapper that does not know of regions ignores them without a word.
    """
    ffmpeg.find(encoder.encoder)
    y, x = np.mgrid[:128, :128]
    wave = 128 + 60 * np.sin(x / 3.0) * np.cos(y / 4.0)
    pixels = np.repeat(wave.astype(np.uint8)[..., None], 3, axis=-1)
    mask = (x < 64).astype(np.float32)
    factor = round((encoder.best + encoder.worst) / 2)
    files = [encoder.encode(pixels, mask, offset, factor) for offset in (0.0, OFFSETS[-1])]
    if files[0] == files[1]:
        raise MissingPeerError(f"this ffmpeg's {encoder.encoder} takes no notice of regions")


def roi_filters(mask: np.ndarray, offset: float) -> list[str]:
    """ffmpeg filters that give the region's blocks an offset; none for an offset of 0."""
    if offset == 0:
        return []
    return [
        f"addroi=x={left}:y={top}:w={right - left}:h={bottom - top}:qoffset={offset:.3f}"
        for top, bottom, left, right in rectangles(mask)
    ]


def rectangles(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The region as rectangles of whole blocks, (top, bottom, left, right) in pixels.

    Blocks side by side are one rectangle, and equal ones below one another, too. They do not
    overlap and end at the picture's edge.

    Args:
      mask: float [H, W] in 0..1.
    """
    height_px, width_px = mask.shape
    found: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], int] = {}  # (left, right) of a rectangle that may grow: its top
    for top in range(0, height_px + BLOCK_PX, BLOCK_PX):
        spans = _spans(mask[top : top + BLOCK_PX]) if top < height_px else []
        for left, right in [span for span in growing if span not in spans]:
            start = growing.pop((left, right))
            found.append((start, min(top, height_px), left, right))
        for span in spans:
            growing.setdefault(span, top)
    return sorted(found)


def _spans(strip: np.ndarray) -> list[tuple[int, int]]:
    """Left and right of the runs of blocks of a strip that belong to the region."""
    width_px = strip.shape[1]
    lefts = range(0, width_px, BLOCK_PX)
    inside = [bool(strip[:, left : left + BLOCK_PX].mean() >= _SHARE) for left in lefts]
    edges = np.flatnonzero(np.diff([False, *inside, False])) * BLOCK_PX
    return [(int(a), min(int(b), width_px)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
