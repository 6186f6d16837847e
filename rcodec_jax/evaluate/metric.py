"""What `rcodec eval` measures: the table that rows, curves, plots, pages and terminal follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rcodec_jax.metrics import dists, fidelity, frechet, inception, ssimulacra2
from rcodec_jax.metrics.perceptual import MIN_SIDE_PX, Lpips

PEAK_DB = 20 * math.log10(255)
"""What a PSNR of samples in 0..255 lacks, as `fidelity.psnr` takes 1 for the peak."""

HIGHER, LOWER = True, False


@dataclass(frozen=True)
class Metric:
    """A figure of single pictures or, with `features`, of sets of pictures alone.

    Attributes:
      name: its key in `figures`, and its column in CSV and JSON.
      title: in plots and tables, without the unit.
      digits: decimals that are shown.
      measure: gives [N] for originals and decoded pictures, float32 [N, H, W, 3] in 0..1; with a
        network that is the third argument. It is jitted.
      network: a class with a method `load(folder)`.
      weights: the network's file beside those of LPIPS; without it the metric is left out.
      min_side_px: pictures with a shorter side have no figure.
      features: gives [n, C], of network and uint8 [H, W, 3], for the Frechet distance of sets.
      unit: as it follows a title, such as " (dB)".
      long_title: on pages, if not `title`.
      heading: in the narrow table on the terminal, if not `title`.
    """

    name: str
    title: str
    digits: int
    higher_is_better: bool
    measure: Callable[..., jax.Array] | None = None
    network: Any = None
    weights: str = ""
    min_side_px: int = 1
    features: Callable[..., Any] | None = None
    unit: str = ""
    long_title: str = ""
    heading: str = ""

    @property
    def page_title(self) -> str:
        return self.long_title or self.title


def _psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    # Differences of whole numbers are exact, so that equal pixels err by nothing at all.
    return fidelity.psnr(jnp.round(255 * a), jnp.round(255 * b)) + PEAK_DB


def _distance(a: jax.Array, b: jax.Array, network: Callable[..., jax.Array]) -> jax.Array:
    return network(2 * a - 1, 2 * b - 1)


_TABLE = (
    Metric("psnr_db", "PSNR", 2, HIGHER, _psnr, unit=" (dB)", heading="PSNR dB"),
    Metric("ms_ssim", "MS-SSIM", 4, HIGHER, fidelity.ms_ssim, min_side_px=fidelity.MIN_SIDE_PX),
    Metric("lpips", "LPIPS", 4, LOWER, _distance, Lpips, min_side_px=MIN_SIDE_PX),
    Metric("dists", "DISTS", 4, LOWER, _distance, dists.Dists, dists.FILE, MIN_SIDE_PX),
    Metric(
        *("ssimulacra2", "SSIMULACRA 2", 1, HIGHER, ssimulacra2.ssimulacra2),
        min_side_px=ssimulacra2.MIN_SIDE_PX,
        heading="SSIM2",
    ),
    Metric(
        *("frechet", "Frechet distance", 3, LOWER, None, Lpips),
        features=frechet.patch_features,
        long_title="Frechet distance of LPIPS features",
        heading="Frechet",
    ),
    Metric(
        *("fid256", "FID/256", 2, LOWER, None, inception.Inception, inception.FILE),
        features=frechet.fid_features,
    ),
)
METRICS = {metric.name: metric for metric in _TABLE}
"""By name, in the order in which they are shown."""


def measured(points: Iterable[Mapping[str, float | None]]) -> list[Metric]:
    """The metrics of which any of `points`, the `figures` of rows or curves, has a figure."""
    known = {name for figures in points for name, value in figures.items() if value is not None}
    return [metric for metric in METRICS.values() if metric.name in known]
