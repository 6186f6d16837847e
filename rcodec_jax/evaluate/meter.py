"""Figures of one decoded picture, from uint8 pixels: whole picture and region of interest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.metrics import fidelity, frechet, regional, ssimulacra2
from rcodec_jax.metrics.dists import Dists
from rcodec_jax.metrics.inception import Inception
from rcodec_jax.metrics.perceptual import MIN_SIDE_PX, Lpips

_PEAK_DB = 20 * math.log10(255)


@dataclass(frozen=True)
class Quality:
    """Whole-picture figures; None where weights are missing or the picture is too small."""

    psnr_db: float
    ms_ssim: float | None
    lpips: float | None
    ssimulacra2: float | None = None
    dists: float | None = None


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
      lpips: network to use, None to leave LPIPS out.
      dists: weights of DISTS, None to leave it out.
      inception: network of FID/256, None to leave it out.
    """

    def __init__(
        self,
        lpips: Lpips | None = None,
        *,
        dists: Dists | None = None,
        inception: Inception | None = None,
    ) -> None:
        self._lpips = lpips
        self._dists = dists
        self._inception = inception

    @property
    def lpips_net(self) -> str | None:
        return None if self._lpips is None else self._lpips.net

    @property
    def has_dists(self) -> bool:
        return self._dists is not None

    @property
    def has_fid(self) -> bool:
        return self._inception is not None

    def whole(self, original: np.ndarray, decoded: np.ndarray) -> Quality:
        """Figures of `decoded` against `original`, both uint8 [H, W, 3] of one size."""
        _check_pair(original, decoded)
        side = min(original.shape[:2])
        learned = (self._lpips, self._dists) if side >= MIN_SIDE_PX else (None, None)
        values = _whole(original[None], decoded[None], *learned)
        psnr, *others = (None if v is None else float(v[0]) for v in values)
        assert psnr is not None
        return Quality(psnr, *others)

    def patch_features(self, pixels: np.ndarray) -> np.ndarray:
        """LPIPS features [n, C] of the patches of uint8 [H, W, 3] (see `metrics.frechet`).

        Raises UsageError without LPIPS.
        """
        if self._lpips is None:
            raise UsageError("Frechet distances need LPIPS weights, got none")
        return frechet.patch_features(self._lpips, pixels)

    def fid_features(self, pixels: np.ndarray) -> np.ndarray:
        """Inception features [n, 2048] of the patches of uint8 [H, W, 3] (see `metrics.frechet`).

        Raises UsageError without Inception's weights.
        """
        if self._inception is None:
            raise UsageError("FID/256 needs weights of Inception V3, got none")
        return frechet.fid_features(self._inception, pixels)

    def region(self, original: np.ndarray, decoded: np.ndarray, mask: np.ndarray) -> RegionQuality:
        """Figures within `mask`, float [H, W] in 0..1, and the PSNR of what lies outside it."""
        _check_pair(original, decoded)
        lpips = self._lpips if min(original.shape[:2]) >= MIN_SIDE_PX else None
        values = _region(original[None], decoded[None], mask[None].astype(np.float32), lpips)
        psnr, background, spatial, composite, score = (
            None if v is None else float(v[0]) for v in values
        )
        assert psnr is not None and background is not None
        band = regional.band_errors(original, decoded, mask)
        return RegionQuality(psnr, background, spatial, composite, score, band)


@jax.jit
def _whole(
    original: jax.Array, decoded: jax.Array, lpips: Lpips | None, dists: Dists | None
) -> tuple[jax.Array | None, ...]:
    """In the order of `Quality`."""
    a, b = _unit_range(original), _unit_range(decoded)
    side = min(a.shape[1:3])
    psnr = fidelity.psnr(*_whole_numbers(original, decoded)) + _PEAK_DB
    structure = fidelity.ms_ssim(a, b) if side >= fidelity.MIN_SIDE_PX else None
    score = ssimulacra2.ssimulacra2(a, b) if side >= ssimulacra2.MIN_SIDE_PX else None
    one, two = (None if m is None else m(2 * a - 1, 2 * b - 1) for m in (lpips, dists))
    return psnr, structure, one, score, two


@jax.jit
def _region(
    original: jax.Array, decoded: jax.Array, mask: jax.Array, lpips: Lpips | None
) -> tuple[jax.Array | None, ...]:
    """In the order of `RegionQuality`."""
    a, b = _unit_range(original), _unit_range(decoded)
    exact = _whole_numbers(original, decoded)
    inside, outside = (regional.roi_psnr(*exact, m) + _PEAK_DB for m in (mask, 1 - mask))
    score = None
    if min(a.shape[1:3]) >= ssimulacra2.MIN_SIDE_PX:
        score = ssimulacra2.ssimulacra2(a, regional.composite(a, b, mask))
    if lpips is None:
        return inside, outside, None, None, score
    a, b = 2 * a - 1, 2 * b - 1
    spatial = regional.roi_lpips_spatial(lpips, a, b, mask)
    return inside, outside, spatial, regional.roi_lpips_composite(lpips, a, b, mask), score


def _whole_numbers(original: jax.Array, decoded: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Floats on 0..255: differences are exact, so that equal pixels err by nothing at all."""
    return original.astype(jnp.float32), decoded.astype(jnp.float32)


def _unit_range(pixels: jax.Array) -> jax.Array:
    return pixels.astype(jnp.float32) / 255


def _check_pair(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise RcodecError(
            f"expected a decoded picture uint8 {list(original.shape)}, "
            f"got {decoded.dtype} {list(decoded.shape)}"
        )
