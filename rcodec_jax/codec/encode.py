"""Encoding: picture -> importance -> levels -> latent -> hyper-latent -> symbols -> file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from rcodec_jax.bitstream import Header, write_container
from rcodec_jax.codec.bitsmap import cell_bits
from rcodec_jax.codec.checks import check_number
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.quantise import TRADE, Quantised, quantise
from rcodec_jax.codec.refine import (
    DEFAULT_EFFORT,
    DEFAULT_TUNE,
    SHORT,
    STEPS,
    Refiner,
    check_effort,
)
from rcodec_jax.entropy import encode_symbols
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import DEFAULT_STRENGTH, SPAN
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.nn.hyperprior import HYPER_STRIDE
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.budget import fit_base
from rcodec_jax.regions.levelmap import (
    LevelMap,
    build_level_map,
    cell_shape,
    pool_importance,
)

DEFAULT_QUALITY = 50.0
TOLERANCE = 0.004
"""A file this much below its budget is close enough to stop searching."""

NEAR = 0.06
"""The same for where latents are refined, which need not be the very base of the file."""


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
    trade: float = TRADE,
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
    target = _target_bytes(quality, bpp, size_bytes, height * width)
    base = base_of_quality(DEFAULT_QUALITY if quality is None else quality, bundle)
    cells = (
        None
        if importance is None
        else pool_importance(check_shape(importance, image), *cell_shape(height, width))
    )
    refiner = Refiner(bundle) if refiner is None else refiner
    steps, notes = _steps(refiner, effort)

    def levels_at(base: int) -> LevelMap:
        return build_level_map(
            cells, base=base, strength=roi_strength, span=SPAN,
            node_range=bundle.config.node_range, shape=cell_shape(height, width),
        )  # fmt: skip

    def refined(latents: _Latents, base: int, steps: int) -> _Latents:
        levels, z = levels_at(base), latents.z
        z = programs.hyper(latents.y, levels) if z is None else z
        y, z = refiner(image, latents.y, z, levels, steps=steps, tune=tune, progress=progress)
        return dataclasses.replace(latents, y=y, z=z, known={})

    latents = _Latents(bundle, programs, levels_at, (height, width), trade, programs.latent(image))
    if target is None:
        if steps:
            latents = refined(latents, base, steps)
        data = latents.finish(base)
    else:
        low, high = bundle.config.node_range
        if cells is not None:
            # Past the finest node only what matters less improves, until all is at the finest.
            low -= math.ceil(SPAN * roi_strength)
        plain, start = latents, None
        if steps:
            start = _near(latents.size_of, target, (low, high))
            if steps > SHORT:
                # Refined files are smaller, so that a finer base is within reach than the first.
                latents = refined(latents, start, steps // 2)
                start = _near(latents.size_of, target, (low, high), start)
            latents = refined(latents, start, steps)
        try:
            found = _fit(latents.size_of, latents.finish, target, (low, high), start)
        except UsageError:
            if latents is plain:
                raise
            # The smallest file is not always among those that become smaller.
            latents = plain
            found = _fit(latents.size_of, latents.finish, target, (low, high), start)
        base, data, more = found
        notes += more
    symbols = latents.at(base)
    return Encoded(
        data=data,
        header=_header(bundle, symbols.levels, height, width),
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
      levels_at: the level map of a base.
      size: height and width of the picture in pixels.
      trade: see `quantise.trim`.
      y: of a bucket [h', w', C].
      z: int32 [hz, wz, Z]; None for what the model's analysis gives at each base.
      known: what has been quantised, by base.
    """

    bundle: Bundle
    programs: Programs
    levels_at: Callable[[int], LevelMap]
    size: tuple[int, int]
    trade: float
    y: np.ndarray
    z: np.ndarray | None = None
    known: dict[int, Quantised] = dataclasses.field(default_factory=dict)

    def at(self, base: int) -> Quantised:
        if base not in self.known:
            self.known[base] = quantise(
                self.bundle,
                self.programs,
                self.y,
                self.levels_at(base),
                trade=self.trade,
                z=self.z,
            )
        return self.known[base]

    def size_of(self, base: int) -> float:
        s = self.at(base)
        around = write_container(_header(self.bundle, s.levels, *self.size), s.level_bytes, b"")
        return len(around) + s.payload_bytes

    def finish(self, base: int) -> bytes:
        s = self.at(base)
        payload = encode_symbols(
            self.bundle.integers, s.z, s.j, s.levels.nodes, s.levels.level_map, s.prior
        )
        return write_container(_header(self.bundle, s.levels, *self.size), s.level_bytes, payload)


def _steps(refiner: Refiner, effort: int | None) -> tuple[int, tuple[str, ...]]:
    """Steps of refinement at an effort, and what the user should know of them.

    Raises:
      UsageError: an effort was asked for that the model cannot make.
    """
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


def _target_bytes(
    quality: float | None, bpp: float | None, size_bytes: int | None, pixels: int
) -> float | None:
    given = [
        f"{name}={value}"
        for name, value in (("quality", quality), ("bpp", bpp), ("size_bytes", size_bytes))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(f"expected one of quality, bpp and size_bytes, got {', '.join(given)}")
    for name, value in (("bpp", bpp), ("size_bytes", size_bytes)):
        if value is not None:
            check_number(value, f"a budget above 0 as {name}", -math.inf, math.inf)
    target = size_bytes if bpp is None else bpp * pixels / 8
    if target is not None and not 0 < target < float("inf"):
        raise UsageError(f"expected a budget above 0, got {given[0]}")
    return target


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
    size_of: Callable[[int], float],
    finish: Callable[[int], bytes],
    target: float,
    base_range: tuple[int, int],
    start: int | None,
) -> tuple[int, bytes, tuple[str, ...]]:
    """Base node, file and notes for a budget in bytes; the file is never above it."""
    high = base_range[1]
    try:
        fit = fit_base(size_of, target, base_range, tolerance=TOLERANCE, start=start)
    except UsageError:
        # Sizes are estimates to a byte or two: the smallest file itself has the last word.
        data = finish(high)
        if len(data) > target:
            raise
        return high, data, ()
    base = fit.base
    data = finish(base)
    while len(data) > target and base < high:
        base += 1
        data = finish(base)
    if len(data) > target:
        raise UsageError(
            f"expected a budget of at least {len(data)} bytes for this picture, got {target:g}"
        )
    notes: tuple[str, ...] = ()
    if fit.at_best and len(data) < target - max(0.02 * target, 16):
        notes = (
            f"the budget of {int(target)} bytes is above what this model can use; "
            f"encoded at its best quality, {len(data)} bytes",
        )
    return base, data, notes


def _header(bundle: Bundle, levels: LevelMap, height: int, width: int) -> Header:
    return Header(
        height_px=height,
        width_px=width,
        n_lo=levels.n_lo,
        n_hi=levels.n_hi,
        level_count=levels.level_count,
        integer_digest=bundle.integers.digest,
        float_digest=bundle.float_digest,
    )
