"""Encoding: picture -> latent; importance -> levels; both -> hyper-latent -> symbols -> file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from rcodec_jax.bitstream import Header
from rcodec_jax.bitstream.metadata import encode_metadata
from rcodec_jax.codec.bitsmap import cell_bits
from rcodec_jax.codec.checks import check_number, target_bytes
from rcodec_jax.codec.exchange import exchange_rate, span_at
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.latents import Latents
from rcodec_jax.codec.quantise import Quantised
from rcodec_jax.codec.refine import DEFAULT_EFFORT, DEFAULT_TUNE, Refiner, check_effort
from rcodec_jax.codec.resampling import halve, halve_importance
from rcodec_jax.codec.sample import SAMPLE_SIDE, Blocks, sample_blocks, take_blocks
from rcodec_jax.codec.tone import error_bits, is_grey, is_smooth
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA
from rcodec_jax.errors import BudgetError, UsageError
from rcodec_jax.levels import DEFAULT_STRENGTH, HYPER_STRIDE, NODE_COUNT
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.descent import SHORT, STEPS
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.budget import MAX_PROBES, fit_base, fit_by_sample, is_short, why_short
from rcodec_jax.regions.levelmap import (
    LevelMap,
    build_level_map,
    cell_shape,
    checked_importance,
    pool_importance,
)

DEFAULT_QUALITY = 50.0
TOLERANCE = 0.004
"""A file this much below its budget is close enough to stop searching."""

CLOSE = 0.018
"""The same for pictures that are searched by a sample."""

_STAGES = 2  # of progress

LARGE_PX = 1 << 22
"""Pictures of more pixels are encoded at effort 1 unless told otherwise: each step of refinement
takes several times what all else does. They fit a budget by a sample, too."""

NEAR = 0.06
"""The same for where latents are refined, which need not be the very base of the file."""

TONE_SHARE = 0.01
"""Share of a budget that is kept for the tone map."""

SMOOTH_LAMBDA = 0.5
"""What smooth pictures are quantised with for a second try: nearly all integers are left out there,
and the tone map does instead what they would have done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A finished file and how it came about.

    Attributes:
      data: the file.
      header: its header.
      bpp: file bits per pixel of the picture.
      base_node: node of what matters most.
      symbols: what was coded.
      notes: what the user should know.
    """

    data: bytes
    header: Header
    bpp: float
    base_node: int
    symbols: Quantised
    notes: tuple[str, ...]

    @property
    def cell_bits(self) -> np.ndarray:
        """Ideal bits of each cell [h, w], hyper-latents' shared by the cells they cover."""
        return cell_bits(self.symbols.bits_z, self.symbols.bits_y[..., None], HYPER_STRIDE)


def encode(
    bundle: Bundle,
    programs: Programs,
    image: np.ndarray,
    *,
    importance: np.ndarray | None = None,
    quality: float | None = None,
    bpp: float | None = None,
    size_bytes: int | None = None,
    roi_strength: float = DEFAULT_STRENGTH,
    effort: int | None = None,
    tune: str = DEFAULT_TUNE,
    metadata: Mapping[str, str] | None = None,
    rdoq_lambda: float = RDOQ_LAMBDA,
    resampling: int = 1,
    refiner: Refiner | None = None,
    progress: Progress = no_progress,
) -> Encoded:
    """Encodes a picture; see `Codec.encode_detailed`.

    Args:
      resampling: 1, or 2 to code the picture at half its width and height.
      refiner: of the same bundle, None to make one; one that is kept compiles once.

    Raises:
      BudgetError: a budget below what the model can reach.
      UsageError: other arguments that it cannot take.
    """
    check_image(image)
    check_options(roi_strength, effort, tune, metadata)
    shown = image.shape[:2]
    total = target_bytes(quality, bpp, size_bytes, math.prod(shown))
    base = base_of_quality(DEFAULT_QUALITY if quality is None else quality, bundle)
    importance = None if importance is None else check_shape(importance, image)
    if resampling == 2:
        image = halve(image)
        if importance is not None:
            importance = halve_importance(checked_importance(importance))
    height, width = image.shape[:2]
    cells = None if importance is None else pool_importance(importance, *cell_shape(height, width))
    refiner = Refiner(bundle) if refiner is None else refiner
    steps, notes = _steps(refiner, effort, math.prod(shown))
    if tune != DEFAULT_TUNE and not steps:
        notes += ("at effort 1 nothing is tuned: --tune counts from effort 2 on",)
    if cells is not None and cells.min() == cells.max():
        cells = None
        notes += ("the importance is the same everywhere, so no region is favoured",)

    def levels_at(base: int, blocks: Blocks | None = None) -> LevelMap:
        own, shape = cells, cell_shape(height, width)
        if blocks is not None:
            own = None if cells is None else take_blocks(cells, blocks, SAMPLE_SIDE)
            shape = blocks[0].size * SAMPLE_SIDE, blocks[1].size * SAMPLE_SIDE
        return build_level_map(
            own, base=base, span=span,
            node_range=bundle.config.node_range, shape=shape,
        )  # fmt: skip

    def refined(latents: Latents, base: int, steps: int) -> Latents:
        levels, z = levels_at(base), latents.z
        z = programs.hyper(latents.y, levels) if z is None else z
        y, z = refiner(image, latents.y, z, levels, steps=steps, tune=tune, progress=progress)
        return dataclasses.replace(latents, y=y, z=z, sizes={}, known={})

    progress(0, _STAGES, "analysing")
    blocks = sample_blocks(*cell_shape(height, width)) if height * width > LARGE_PX else None
    y, span = programs.latent(image), 0
    if cells is not None and roi_strength:
        rate = 1.0  # of no matter at full strength
        if roi_strength < 1:
            rate = exchange_rate(bundle, programs, y, cells, blocks=blocks, rdoq_lambda=rdoq_lambda)
        span = span_at(rate, roi_strength)
        if total is None and span:
            notes += (
                f"the quality is that of the region; its surroundings are coded up to {span} nodes "
                f"(of {NODE_COUNT}) coarser (a budget in bytes gives the bits saved to the region)",
            )
    latents = Latents(
        bundle, programs, levels_at, (shown[0], shown[1]), rdoq_lambda, y,
        blocks=blocks, grey=is_grey(image), resampling=resampling, metadata=metadata or {},
    )  # fmt: skip
    progress(1, _STAGES, "coding")
    plain, start, target, (low, high) = latents, base, math.inf, bundle.config.node_range
    if total is not None:
        target = total * (1 - TONE_SHARE) if steps else total
        if cells is not None:
            # Past the finest node only what matters less improves, until all is at the finest.
            low -= span
        if steps:
            start = _near(latents.roughly, target, (low, high))
        if steps > SHORT:
            # Refined files are smaller, so that a finer base is within reach than the first.
            latents = refined(latents, start, steps // 2)
            start = _near(latents.roughly, target, (low, high), start)
    if steps:
        latents = refined(latents, start, steps)

    def file_of(latents: Latents) -> tuple[Latents, int, bytes]:
        if total is None:
            return latents, base, latents.finish(base)
        try:
            return latents, *_fit(latents, target, (low, high), start if steps else None)
        except UsageError:
            if not steps:
                raise
            # The smallest file is not always among those that become smaller, and has no tone map.
            return plain, *_fit(plain, total, (low, high), start)

    latents, at, data = file_of(latents)
    if steps:
        most = math.inf if total is None else total
        data, decoded = latents.with_tone(at, data, image, most)
        if is_smooth(image) and rdoq_lambda > SMOOTH_LAMBDA:
            second = file_of(latents.quantised_by(SMOOTH_LAMBDA))
            smaller, drawn = second[0].with_tone(*second[1:], image, most)
            worth = latents.worth(at)
            gain = error_bits(image, decoded, worth) - error_bits(image, drawn, worth)
            gain += 8 * (len(data) - len(smaller)) if total is None else 0
            if gain > 0:
                latents, at, data = *second[:2], smaller
    symbols = latents.at(at)  # of a large picture the next look at a base forgets them
    if total is not None and is_short(len(data), total):
        notes += (why_short(len(data), total, None if at <= low else latents.size_of(at - 1)),)
    progress(_STAGES, _STAGES, "")
    return Encoded(
        data=data,
        header=latents.header(symbols.levels),
        bpp=len(data) * 8 / math.prod(shown),
        base_node=max(at, bundle.config.node_range[0]),
        symbols=symbols,
        notes=notes,
    )


def _steps(refiner: Refiner, effort: int | None, pixels: int) -> tuple[int, tuple[str, ...]]:
    """Steps of refinement at an effort, and what the user should know of them.

    Raises:
      UsageError: an effort was asked for that the model cannot make.
    """
    if effort is None and pixels > LARGE_PX:
        most = LARGE_PX / 1e6
        return 0, (f"encoded at effort 1, as more than {most:.1f} megapixels are by default",)
    steps = STEPS[(DEFAULT_EFFORT if effort is None else effort) - 1]
    missing = refiner.lacks() if steps else None
    if missing is None:
        return steps, ()
    if effort is not None:
        raise UsageError(f"expected effort 1 for a model that cannot refine ({missing})")
    return 0, (f"encoded at effort 1: this model cannot refine ({missing})",)


def base_of_quality(quality: float, bundle: Bundle) -> int:
    """Quality 0..100 -> base node, linear: 100 is the finest node of the model.

    Raises:
      UsageError: outside 0..100.
    """
    check_number(quality, "a quality in 0..100", 0, 100)
    low, high = bundle.config.node_range
    return round(high - (high - low) * quality / 100)


def check_options(
    roi_strength: float, effort: int | None, tune: str, metadata: Mapping[str, str] | None
) -> None:
    """Raises UsageError for options that no picture can be encoded with, before the work."""
    check_effort(effort, tune)
    encode_metadata(metadata or {})
    check_number(roi_strength, "a strength in 0..1", 0, 1)


def check_image(image: np.ndarray) -> None:
    """Raises UsageError unless the picture is uint8 [H, W, 3]."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise UsageError(f"expected a picture uint8 [H, W, 3], got {given}")
    if image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"expected a picture uint8 [H, W, 3], got shape {image.shape}")


def check_shape(importance: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The importance map as an array; UsageError unless it has the picture's size."""
    importance = np.asarray(importance)
    if importance.dtype.kind not in "biuf":
        raise UsageError(f"expected importance as numbers in 0..1, got {importance.dtype}")
    if importance.shape != image.shape[:2]:
        raise UsageError(
            f"expected importance of the picture's size {image.shape[:2]}, got {importance.shape}"
        )
    return importance


def _near(
    size_of: Callable[[int], float],
    target: float,
    base_range: tuple[int, int],
    start: int | None = None,
) -> int:
    """A base whose file is about as large as a budget; the smallest file's if none is."""
    try:
        return fit_base(size_of, target, base_range, tolerance=NEAR, start=start).base
    except UsageError:
        return base_range[1]


def _fit(
    latents: Latents, target: float, base_range: tuple[int, int], start: int | None
) -> tuple[int, bytes]:
    """Base node and file for a budget in bytes; the file is never above it."""
    high, finish = base_range[1], latents.finish
    try:
        fit = None
        if latents.blocks is not None:
            sizes = latents.size_of, latents.roughly
            fit = fit_by_sample(*sizes, target, base_range, tolerance=CLOSE, start=start)
            if fit is None and latents.sizes:
                start = min(latents.sizes, key=lambda base: abs(latents.sizes[base] - target))
        if fit is None:
            fit = fit_base(latents.size_of, target, base_range, tolerance=TOLERANCE, start=start)
    except UsageError:
        # Sizes are estimates to a byte or two: the smallest file itself has the last word.
        data = finish(high)
        if len(data) > target:
            raise _too_small(data, target, latents) from None
        return high, data
    base = fit.base
    data = finish(base)
    while len(data) > target and base < high:
        base += 1
        data = finish(base)
    if len(data) > target:
        raise _too_small(data, target, latents)
    low = base_range[0]
    for finer in range(base - 1, max(low, base - MAX_PROBES) - 1, -1):
        # The search ended before this: sizes of smooth pictures do not fall evenly.
        if not is_short(len(data), target) or latents.size_of(finer) > target:
            break
        if len(candidate := finish(finer)) > target:
            break
        base, data = finer, candidate
    return base, data


def _too_small(data: bytes, target: float, latents: Latents) -> BudgetError:
    """The error for a budget below the smallest file of a picture."""
    least, given = (8 * size / math.prod(latents.size) for size in (len(data), target))
    whole = f"{int(target)} byte{'s'[: target >= 2]}" if target >= 1 else "less than a byte"
    return BudgetError(
        f"expected a budget of at least {len(data)} bytes for this picture ({least:.4g} bits per "
        f"pixel), got {whole} ({given:.4g} bits per pixel)"
    )
