"""Decoding: file -> symbols -> noisy latent -> denoiser -> picture. Mirrors `encode`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rcodec_jax.codec.checks import check_number, check_whole
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.resampling import enlarge
from rcodec_jax.codec.symbols import read_symbols, read_tone
from rcodec_jax.codec.tiling import Window
from rcodec_jax.codec.tone import finish
from rcodec_jax.diffusion.schedule import NodeTable, Trajectory, node_table
from rcodec_jax.entropy import (
    PRIOR_BITS,
    Limits,
    Symbols,
    dither_indices,
    dither_values,
)
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.ends import BALANCED, end_towards
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.levelmap import LevelMap

MAX_STEPS = 50


def decode(
    bundle: Bundle,
    programs: Programs,
    data: bytes,
    *,
    steps: int | None = None,
    trajectory: Trajectory = "proportional",
    realism: float = BALANCED,
    limits: Limits | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Decodes a file; see `Codec.decode`."""
    steps = bundle.config.steps if steps is None else steps
    check_whole(steps, f"1..{MAX_STEPS} steps", 1, MAX_STEPS)
    if trajectory not in ("proportional", "synchronous"):
        raise UsageError(f"expected trajectory proportional or synchronous, got {trajectory!r}")
    if not isinstance(limits, Limits | None):
        raise UsageError(f"expected limits as Limits or None, got {type(limits).__name__}")
    check_number(realism, "a realism in 0..1", 0, 1)
    end = end_towards(realism)
    if end is not None and end not in bundle.params:
        name = end.removeprefix("decoder_")
        raise UsageError(f"this model has no {name} end: expected realism {BALANCED}")
    container, levels, symbols = read_symbols(data, bundle.integers, limits=limits)
    header = container.header
    if header.float_digest != bundle.float_digest:
        warnings.warn(
            f"the file was made with networks {header.float_digest.hex()}, these are "
            f"{bundle.float_digest.hex()}: the picture may differ from what its maker saw",
            stacklevel=3,
        )
    tone = read_tone(container)
    pixels = draw(
        programs, symbols, levels, header.coded_size,
        steps=steps, kind=trajectory, realism=realism, progress=progress,
    )  # fmt: skip
    finished = finish(pixels, tone, grey=header.grey)
    if header.resampling == 1:
        return finished
    return enlarge(finished, header.height_px, header.width_px)


def draw(
    programs: Programs,
    symbols: Symbols,
    levels: LevelMap,
    size: tuple[int, int],
    **options: Any,
) -> np.ndarray:
    """The picture uint8 [H, W, 3] that symbols stand for, before its tone map.

    Args:
      size: H and W.
      options: as for `Programs.pixels`.
    """
    table = node_table(programs.schedule)
    indices = dither_indices(*symbols.j.shape)
    height, width, channels = symbols.j.shape

    def part(number: int) -> Deferred:
        shape = (height, width, (number + 1) * channels)
        return Deferred(
            shape, lambda window: _parts(symbols, levels, table, indices, window)[number]
        )

    dither = Deferred(symbols.j.shape, lambda window: dither_values(indices[window]))
    return programs.pixels(part(0), part(1), dither, levels, size, **options)


class Deferred:
    """An array [h, w, ...] whose windows are made when asked for: a `tiling.Array`."""

    def __init__(self, shape: tuple[int, ...], made: Callable[[Window], np.ndarray]) -> None:
        self.shape = shape
        self._made = made

    def __getitem__(self, window: Window) -> np.ndarray:
        return self._made(window)


def dequantise(
    symbols: Symbols, levels: LevelMap, table: NodeTable
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols -> what the denoiser starts from, by the nodes of the model's schedule.

    Returns:
      x float32 [h, w, C] = sqrt(abar) mean + delta (j - g), a sample of the forward process, and
      the prior float32 [h, w, 2C]: its mean and its log2 sigma within the tables' range.
    """
    everything = slice(None), slice(None)
    return _parts(symbols, levels, table, dither_indices(*symbols.j.shape), everything)


def _parts(
    symbols: Symbols, levels: LevelMap, table: NodeTable, dither: np.ndarray, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """`dequantise` of a window."""
    node_map = levels.node_map[window]
    signal = np.sqrt(table.alpha_bar)[node_map][..., None]
    delta = table.delta[node_map][..., None]
    log2_s = table.log2_scale[node_map][..., None]
    mean = symbols.prior.mean[window] / 2.0**PRIOR_BITS
    spread = symbols.prior.log2_sigma[window] / 2.0**PRIOR_BITS + log2_s
    spread = np.clip(spread, np.log2(SCALE_MIN), np.log2(SCALE_MAX))
    x = signal * mean + delta * (symbols.j[window] - dither_values(dither[window]))
    prior = np.concatenate([mean, spread - log2_s], axis=-1)
    return x.astype(np.float32), prior.astype(np.float32)
