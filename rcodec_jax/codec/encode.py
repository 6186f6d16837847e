"""Encoding: picture -> importance -> levels -> latent -> hyper-latent -> symbols -> file."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from rcodec_jax.bitstream import Header, read_container, write_container
from rcodec_jax.codec.bitsmap import cell_bits
from rcodec_jax.codec.checks import check_number, target_bytes
from rcodec_jax.codec.decode import draw
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.quantise import RDOQ_LAMBDA, Quantised, quantise
from rcodec_jax.codec.refine import (
    DEFAULT_EFFORT,
    DEFAULT_TUNE,
    MSE_WEIGHT,
    SHORT,
    STEPS,
    Refiner,
    check_effort,
)
from rcodec_jax.codec.sample import SAMPLE_SIDE, Blocks, sample_blocks, take_blocks
from rcodec_jax.codec.tone import fit_tone, is_grey
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import Symbols, encode_symbols
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX, DEFAULT_STRENGTH, HYPER_STRIDE, NODE_SPAN
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.budget import MAX_PROBES, fit_base, fit_by_sample, is_short, why_short
from rcodec_jax.regions.levelmap import (
    LevelMap,
    build_level_map,
    cell_shape,
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
    rdoq_lambda: float = RDOQ_LAMBDA,
    refiner: Refiner | None = None,
    progress: Progress = no_progress,
) -> Encoded:
    """Encodes a picture; see `Codec.encode_detailed`.

    Args:
      refiner: of the same bundle, None to make one; one that is kept compiles once.
    """
    check_image(image)
    check_effort(effort, tune)
    check_number(roi_strength, "a strength in 0..1", 0, 1)
    height, width = image.shape[:2]
    total = target_bytes(quality, bpp, size_bytes, height * width)
    base = base_of_quality(DEFAULT_QUALITY if quality is None else quality, bundle)
    cells = (
        None
        if importance is None
        else pool_importance(check_shape(importance, image), *cell_shape(height, width))
    )
    refiner = Refiner(bundle) if refiner is None else refiner
    steps, notes = _steps(refiner, effort, height * width)

    def levels_at(base: int, blocks: Blocks | None = None) -> LevelMap:
        own, shape = cells, cell_shape(height, width)
        if blocks is not None:
            own = None if cells is None else take_blocks(cells, blocks, SAMPLE_SIDE)
            shape = blocks[0].size * SAMPLE_SIDE, blocks[1].size * SAMPLE_SIDE
        return build_level_map(
            own, base=base, strength=roi_strength, span=NODE_SPAN,
            node_range=bundle.config.node_range, shape=shape,
        )  # fmt: skip

    def refined(latents: _Latents, base: int, steps: int) -> _Latents:
        levels, z = levels_at(base), latents.z
        z = programs.hyper(latents.y, levels) if z is None else z
        y, z = refiner(image, latents.y, z, levels, steps=steps, tune=tune, progress=progress)
        return dataclasses.replace(latents, y=y, z=z, sizes={}, known={})

    progress(0, _STAGES, "analysing")
    blocks = sample_blocks(*cell_shape(height, width)) if height * width > LARGE_PX else None
    size, y = (height, width), programs.latent(image)
    latents = _Latents(
        bundle, programs, levels_at, size, rdoq_lambda, y, blocks=blocks, grey=is_grey(image)
    )
    progress(1, _STAGES, "coding")
    if total is None:
        if steps:
            latents = refined(latents, base, steps)
        data = latents.finish(base)
    else:
        target = total * (1 - TONE_SHARE) if steps else total
        low, high = bundle.config.node_range
        if cells is not None:
            # Past the finest node only what matters less improves, until all is at the finest.
            low -= math.ceil(NODE_SPAN * roi_strength)
        plain, start = latents, None
        if steps:
            start = _near(latents.roughly, target, (low, high))
            if steps > SHORT:
                # Refined files are smaller, so that a finer base is within reach than the first.
                latents = refined(latents, start, steps // 2)
                start = _near(latents.roughly, target, (low, high), start)
            latents = refined(latents, start, steps)
        try:
            base, data = _fit(latents, target, (low, high), start)
        except UsageError:
            if latents is plain:
                raise
            # The smallest file is not always among those that become smaller, and has no tone map.
            latents = plain
            base, data = _fit(latents, total, (low, high), start)
    if steps:
        data = latents.with_tone(base, data, image, math.inf if total is None else total)
    symbols = latents.at(base)  # of a large picture the next look at a base forgets them
    if total is not None and is_short(len(data), total):
        notes += (why_short(len(data), total, None if base <= low else latents.size_of(base - 1)),)
    progress(_STAGES, _STAGES, "")
    return Encoded(
        data=data,
        header=latents.header(symbols.levels),
        bpp=len(data) * 8 / (height * width),
        base_node=max(base, bundle.config.node_range[0]),
        symbols=symbols,
        notes=notes,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Latents:
    """Latents of a picture, from which files come at any base.

    Attributes:
      bundle, programs: the model.
      levels_at: the level map of a base, and of the cells in blocks at that.
      size: height and width of the picture in pixels.
      rdoq_lambda: see `quantise.rdoq`.
      y: of a bucket [h', w', C].
      z: int32 [hz, wz, Z]; None for what the model's analysis gives at each base.
      blocks: places of a sample (`sample_blocks`), None where the whole is small enough to be
        looked at for every base.
      grey: the picture has no colour.
      sizes: of files, by base.
      known: what has been quantised, by base; of a large picture the last alone.
    """

    bundle: Bundle
    programs: Programs
    levels_at: Callable[..., LevelMap]
    size: tuple[int, int]
    rdoq_lambda: float
    y: np.ndarray
    z: np.ndarray | None = None
    blocks: Blocks | None = None
    grey: bool = False
    sizes: dict[int, float] = dataclasses.field(default_factory=dict)
    known: dict[int, Quantised] = dataclasses.field(default_factory=dict)

    def at(self, base: int) -> Quantised:
        if base not in self.known:
            if self.blocks is not None:
                self.known.clear()
            self.known[base] = quantise(
                self.bundle,
                self.programs,
                self.y,
                self.levels_at(base),
                rdoq_lambda=self.rdoq_lambda,
                z=self.z,
            )
        return self.known[base]

    def size_of(self, base: int) -> float:
        if base not in self.sizes:
            s = self.at(base)
            around = write_container(self.header(s.levels), s.level_bytes, b"")
            self.sizes[base] = len(around) + s.payload_bytes
        return self.sizes[base]

    def roughly(self, base: int) -> float:
        """`size_of` by the sample, where there is one."""
        if self.blocks is None:
            return self.size_of(base)
        return self._sample.size_of(base) * self._share

    @functools.cached_property
    def _share(self) -> float:
        """Cells of the picture for each of the sample."""
        return math.prod(cell_shape(*self.size)) / math.prod(cell_shape(*self._sample.size))

    @functools.cached_property
    def _sample(self) -> _Latents:
        """A small picture's latents, blocks of this one's beside one another."""
        assert self.blocks is not None
        y = take_blocks(self.y, self.blocks, SAMPLE_SIDE)
        z = None
        if self.z is not None:
            coarse = [starts // HYPER_STRIDE for starts in self.blocks]
            z = take_blocks(self.z, (coarse[0], coarse[1]), SAMPLE_SIDE // HYPER_STRIDE)
        size = (y.shape[0] * CELL_PX, y.shape[1] * CELL_PX)
        levels_at = functools.partial(self.levels_at, blocks=self.blocks)
        return _Latents(self.bundle, self.programs, levels_at, size, self.rdoq_lambda, y, z)

    def with_tone(self, base: int, data: bytes, image: np.ndarray, most_bytes: float) -> bytes:
        """The file of a base with a tone map, if there is one that is worth its bits."""
        s, steps = self.at(base), self.bundle.config.steps
        symbols = Symbols(s.z, s.j, s.prior)
        decoded = draw(
            self.programs, symbols, s.levels, image.shape[:2], steps=steps, kind="proportional"
        )
        alpha_bar = node_table().alpha_bar[s.levels.node_map]
        worth = MSE_WEIGHT * alpha_bar / (1 - alpha_bar)
        tone = fit_tone(image, decoded, worth, most_bytes=most_bytes - len(data))
        if not tone:
            return data
        plain = read_container(data)
        return write_container(plain.header, plain.level_map, plain.payload, tone=tone)

    def finish(self, base: int) -> bytes:
        s = self.at(base)
        payload = encode_symbols(
            self.bundle.integers, s.z, s.j, s.levels.nodes, s.levels.level_map, s.prior
        )
        return write_container(self.header(s.levels), s.level_bytes, payload)

    def header(self, levels: LevelMap) -> Header:
        return Header(
            height_px=self.size[0],
            width_px=self.size[1],
            n_lo=levels.n_lo,
            n_hi=levels.n_hi,
            level_count=levels.level_count,
            integer_digest=self.bundle.integers.digest,
            float_digest=self.bundle.float_digest,
            grey=self.grey,
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
    latents: _Latents, target: float, base_range: tuple[int, int], start: int | None
) -> tuple[int, bytes]:
    """Base node and file for a budget in bytes; the file is never above it."""
    high, finish = base_range[1], latents.finish
    try:
        fit = None
        if latents.blocks is not None:
            sizes = latents.size_of, latents.roughly
            fit = fit_by_sample(*sizes, target, base_range, tolerance=CLOSE, start=start)
        if fit is None:
            fit = fit_base(latents.size_of, target, base_range, tolerance=TOLERANCE, start=start)
    except UsageError:
        # Sizes are estimates to a byte or two: the smallest file itself has the last word.
        data = finish(high)
        if len(data) > target:
            raise
        return high, data
    base = fit.base
    data = finish(base)
    while len(data) > target and base < high:
        base += 1
        data = finish(base)
    if len(data) > target:
        raise UsageError(
            f"expected a budget of at least {len(data)} bytes for this picture, got {target:g}"
        )
    low = base_range[0]
    for finer in range(base - 1, max(low, base - MAX_PROBES) - 1, -1):
        # The search ended before this: sizes of smooth pictures do not fall evenly.
        if not is_short(len(data), target) or latents.size_of(finer) > target:
            break
        if len(candidate := finish(finer)) > target:
            break
        base, data = finer, candidate
    return base, data
