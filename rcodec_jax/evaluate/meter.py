"""Figures of one decoded picture, from uint8 pixels: whole picture and region of interest."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.evaluate.metric import METRICS, PEAK_DB, Metric
from rcodec_jax.metrics import regional, ssimulacra2
from rcodec_jax.metrics.perceptual import MIN_SIDE_PX, Lpips


@dataclass(frozen=True)
class RegionQuality:
    """Figures of the region of interest (see `metrics.regional`)."""

    roi_psnr_db: float
    background_psnr_db: float
    roi_lpips: float | None
    """Spatial LPIPS map averaged over the region."""
    roi_lpips_composite: float | None
    """LPIPS of the decoded region pasted into the original."""
    roi_ssimulacra2: float | None
    """SSIMULACRA 2 of the same."""
    band: regional.BandErrors


class Meter:
    """Computes figures; compiles once per picture size.

    Args:
      networks: by class; metrics whose network is not among them are left out.
    """

    def __init__(self, networks: Mapping[Any, Any] | None = None) -> None:
        self._networks = networks or {}

    @property
    def lpips_net(self) -> str | None:
        return self._networks[Lpips].net if self.has(Lpips) else None

    def has(self, network: Any) -> bool:
        """Whether there is one of the class `network`, or None was asked for."""
        return network is None or self._networks.get(network) is not None

    def whole(self, original: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
        """Figures of `decoded` against `original`, both uint8 [H, W, 3] of one size, by name.

        None where weights are missing or the picture is too small.
        """
        _check_pair(original, decoded)
        side = min(original.shape[:2])
        of_pictures = [m for m in METRICS.values() if m.measure]
        possible = tuple(m for m in of_pictures if side >= m.min_side_px and self.has(m.network))
        networks = [() if m.network is None else (self.network(m),) for m in possible]
        values = _whole(original[None], decoded[None], networks, possible)
        known = {m.name: float(v[0]) for m, v in zip(possible, values, strict=True)}
        return {m.name: known.get(m.name) for m in of_pictures}

    def network(self, metric: Metric) -> Any:
        """That of a metric. Raises UsageError without its weights."""
        if not self.has(metric.network):
            raise UsageError(f"{metric.title} needs weights, got none")
        return self._networks[metric.network]

    def region(self, original: np.ndarray, decoded: np.ndarray, mask: np.ndarray) -> RegionQuality:
        """Figures within `mask`, float [H, W] in 0..1, and the PSNR of what lies outside it."""
        _check_pair(original, decoded)
        lpips = self._networks.get(Lpips) if min(original.shape[:2]) >= MIN_SIDE_PX else None
        values = _region(original[None], decoded[None], mask[None].astype(np.float32), lpips)
        psnr, background, spatial, composite, score = (
            None if v is None else float(v[0]) for v in values
        )
        assert psnr is not None and background is not None
        band = regional.band_errors(original, decoded, mask)
        return RegionQuality(psnr, background, spatial, composite, score, band)


@functools.partial(jax.jit, static_argnums=3)
def _whole(
    original: jax.Array, decoded: jax.Array, networks: Sequence[Any], metrics: Sequence[Metric]
) -> list[jax.Array]:
    """A figure [N] of each of `metrics`; for each `networks` has its own as a tuple, or ()."""
    pair = _unit_range(original), _unit_range(decoded)
    return [m.measure(*pair, *of) for m, of in zip(metrics, networks, strict=True) if m.measure]


@jax.jit
def _region(
    original: jax.Array, decoded: jax.Array, mask: jax.Array, lpips: Lpips | None
) -> tuple[jax.Array | None, ...]:
    """In the order of `RegionQuality`."""
    a, b = _unit_range(original), _unit_range(decoded)
    exact = original.astype(jnp.float32), decoded.astype(jnp.float32)
    inside, outside = (regional.roi_psnr(*exact, m) + PEAK_DB for m in (mask, 1 - mask))
    score = None
    if min(a.shape[1:3]) >= ssimulacra2.MIN_SIDE_PX:
        score = ssimulacra2.ssimulacra2(a, regional.composite(a, b, mask))
    if lpips is None:
        return inside, outside, None, None, score
    a, b = 2 * a - 1, 2 * b - 1
    spatial = regional.roi_lpips_spatial(lpips, a, b, mask)
    return inside, outside, spatial, regional.roi_lpips_composite(lpips, a, b, mask), score


def _unit_range(pixels: jax.Array) -> jax.Array:
    return pixels.astype(jnp.float32) / 255


def _check_pair(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise RcodecError(
            f"expected a decoded picture uint8 {list(original.shape)}, "
            f"got {decoded.dtype} {list(decoded.shape)}"
        )
