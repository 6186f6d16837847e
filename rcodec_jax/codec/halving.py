"""Which pictures are coded at half their width and height: where the same bytes buy more so.

Cameras record more pixels than their lenses resolve. At a low bit rate a large picture spends its
bits better on a quarter of the pixels, and takes a quarter of the time. Whether it does is tried,
both ways, on blocks from all over it. A budget that is out of reach otherwise is met so, too.
Pictures with a region are not tried: what its weight is against the rest is not told by an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rcodec_jax.bitstream.container import RESAMPLINGS
from rcodec_jax.codec import encode as encoding
from rcodec_jax.codec.checks import check_whole, target_bytes
from rcodec_jax.codec.decode import decode
from rcodec_jax.codec.encode import LARGE_PX, Encoded, check_image, check_options, check_shape
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.refine import DEFAULT_TUNE
from rcodec_jax.codec.resampling import enlarge, halve
from rcodec_jax.codec.sample import take_blocks
from rcodec_jax.errors import BudgetError
from rcodec_jax.levels import DEFAULT_STRENGTH
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.budget import is_short
from rcodec_jax.regions.levelmap import checked_importance

_BLOCKS = 4  # along either side of the picture
_BLOCK_PX = 256
_EDGE_PX = 8
"""What is left out along the sides of blocks: where they meet, a halved sample is worse than the
halved picture."""
_ROWS = 256  # compared at a time


def encode(
    bundle: Bundle,
    programs: Programs,
    image: np.ndarray,
    *,
    resampling: int | None = None,
    importance: np.ndarray | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size_bytes: int | None = None,
    roi_strength: float = DEFAULT_STRENGTH,
    effort: int | None = None,
    tune: str = DEFAULT_TUNE,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Encoded:
    """Encodes a picture, with all its pixels or a quarter of them; see `Codec.encode_detailed`.

    Args:
      resampling: 1 or 2; None for 2 where a budget in bytes is spent better so: a large picture
        without a region of which a sample says so, or a budget that 1 cannot reach.
      options: others of `codec.encode.encode`.

    Raises:
      UsageError: as `codec.encode.encode`, or another resampling.
    """
    check_image(image)
    check_options(roi_strength, effort, tune, metadata)
    budget = target_bytes(quality, bpp, size_bytes, image[..., 0].size)
    if importance is not None:
        importance = checked_importance(check_shape(importance, image))

    def at(factor: int) -> Encoded:
        return encoding.encode(
            bundle, programs, image,
            importance=importance, quality=quality, bpp=bpp, size_bytes=size_bytes,
            roi_strength=roi_strength, effort=effort, tune=tune, metadata=metadata,
            resampling=factor, progress=progress, **options,
        )  # fmt: skip

    if resampling is not None:
        check_whole(resampling, "a resampling of 1 or 2", *RESAMPLINGS)
        return at(int(resampling))
    if budget is None:
        return at(1)
    has_region = importance is not None and roi_strength > 0 and np.ptp(importance) > 0
    if image[..., 0].size > LARGE_PX and not has_region:
        progress(0, 1, "trying half the resolution")
        if _pays(bundle, programs, image, budget):
            return _noted(at(2), "which suits this budget better")
    try:
        return at(1)
    except BudgetError:
        return _noted(at(2), "as its budget is below what all its pixels take")


def _noted(encoded: Encoded, why: str) -> Encoded:
    note = f"coded at half its width and height, {why}; decoders enlarge it"
    return dataclasses.replace(encoded, notes=(note, *encoded.notes))


def _pays(bundle: Bundle, programs: Programs, image: np.ndarray, budget: float) -> bool:
    """Whether a picture, coded to a budget, is better when halved.

    Told by a sample that is coded to its share both ways, and by what halving alone loses of the
    whole beyond what it loses of the sample: a line of text between the blocks counts, too.
    """
    sample = _sample(image)
    share = max(1, int(budget * sample[..., 0].size / image[..., 0].size))
    inner = np.ix_(*(_inside(side) for side in sample.shape[:2]))

    def coded(factor: int) -> tuple[int, float]:
        """Bytes and squared error of the sample."""
        try:
            made = encoding.encode(
                bundle, programs, sample, size_bytes=share, resampling=factor, effort=1
            )
        except BudgetError:
            return 0, np.inf
        decoded = decode(bundle, programs, made.data)
        return len(made.data), _squared(decoded[inner], sample[inner])

    size, halved = coded(2)
    if is_short(size, share):  # which all the pixels would make better use of
        return False
    missed = _squared(enlarge(halve(image), *image.shape[:2]), image)
    missed -= _squared(enlarge(halve(sample), *sample.shape[:2])[inner], sample[inner])
    return halved + max(missed, 0.0) < coded(1)[1]


def _inside(side: int) -> np.ndarray:
    """Rows or columns of a sample that are not at the edge of a block."""
    place = np.arange(side) % _BLOCK_PX
    return np.flatnonzero((place >= _EDGE_PX) & (place < _BLOCK_PX - _EDGE_PX))


def _squared(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared error of two pictures uint8 [H, W, 3]."""
    rows = (slice(top, top + _ROWS) for top in range(0, len(a), _ROWS))
    total = sum(float(np.square(a[own].astype(np.float32) - b[own]).sum()) for own in rows)
    return total / a.size


def _sample(image: np.ndarray) -> np.ndarray:
    """Blocks from all over a picture beside one another: uint8 [1024, 1024, 3] at most."""
    rows, columns = (
        np.linspace(0, max(side - _BLOCK_PX, 0), min(_BLOCKS, -(-side // _BLOCK_PX))).astype(int)
        for side in image.shape[:2]
    )
    return take_blocks(image, (rows, columns), _BLOCK_PX)
