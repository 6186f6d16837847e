"""Quality inside a region of interest: ROI-PSNR, ROI-LPIPS, and the band along its border.

The masked forms used for region-of-interest codecs: the error is weighted by the mask, repeated
over channels; the perceptual distance is given both ways found in the field, the spatial LPIPS map
averaged over the mask and LPIPS of the composite (decoded inside, original outside).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics.fidelity import check_pair
from rcodec_jax.metrics.perceptual import Lpips

BAND_PX = 16


def roi_psnr(original: jax.Array, decoded: jax.Array, mask: jax.Array) -> jax.Array:
    """PSNR in dB [N] of the masked error: 10 log10(sum(M) / sum(M (x - x')^2)), M over channels.

    Args:
      original, decoded: [N, H, W, 3] in 0..1.
      mask: [N, H, W] in 0..1. An empty mask gives NaN.
    """
    _check(original, decoded, mask)
    weight = mask[..., None].astype(jnp.float32)
    error = jnp.sum(weight * jnp.square(original - decoded), axis=(1, 2, 3))
    return -10.0 * jnp.log10(error / (3.0 * jnp.sum(weight, axis=(1, 2, 3))))


def roi_lpips_spatial(
    lpips: Lpips, original: jax.Array, decoded: jax.Array, mask: jax.Array
) -> jax.Array:
    """Spatial LPIPS map averaged over the mask, [N]; pictures in -1..1, mask in 0..1."""
    _check(original, decoded, mask)
    distance = lpips.spatial(original, decoded)
    return jnp.sum(distance * mask, axis=(1, 2)) / jnp.sum(mask, axis=(1, 2))


def roi_lpips_composite(
    lpips: Lpips, original: jax.Array, decoded: jax.Array, mask: jax.Array
) -> jax.Array:
    """LPIPS [N] between the original and the original with the region replaced by the decoded one.

    Pictures in -1..1, mask in 0..1. It scales with the region's share of the picture.
    """
    return lpips(original, composite(original, decoded, mask))


def composite(original: jax.Array, decoded: jax.Array, mask: jax.Array) -> jax.Array:
    """The original with the region replaced by the decoded one: [N, H, W, 3], mask in 0..1."""
    _check(original, decoded, mask)
    weight = mask[..., None].astype(original.dtype)
    return weight * decoded + (1 - weight) * original


class BandErrors(NamedTuple):
    """Squared errors of a region's pixels, summed over RGB, split by distance to its border."""

    band_error: float
    band_px: int
    interior_error: float
    interior_px: int

    @property
    def ratio(self) -> float:
        """Band MSE over interior MSE; NaN where either part is empty, infinite if only one errs."""
        if self.band_px == 0 or self.interior_px == 0:
            return float("nan")
        band, interior = self.band_error / self.band_px, self.interior_error / self.interior_px
        if interior == 0:
            return 1.0 if band == 0 else float("inf")
        return band / interior


def band_errors(
    original: np.ndarray, decoded: np.ndarray, mask: np.ndarray, *, band_px: int = BAND_PX
) -> BandErrors:
    """Errors of the region's pixels within `band_px` of its border, and of those further inside.

    The border is where the region meets the rest of the picture; the picture's own edge is none.
    NumPy, on the host.

    Args:
      original, decoded: [H, W, 3], any common range.
      mask: [H, W]; the region is where it is at least 0.5.
    """
    if original.shape != decoded.shape or original.shape[:2] != mask.shape:
        raise UsageError(
            f"expected pictures and a mask of one size, got {original.shape}, {decoded.shape}, "
            f"{mask.shape}"
        )
    region = mask >= 0.5
    if region.all():
        depth_px = np.full(mask.shape, np.inf)
    else:
        # Distance to the nearest pixel outside: 1 for the outermost pixels of the region.
        depth_px = ndimage.distance_transform_edt(region)
    error = np.sum(np.square(original.astype(np.float64) - decoded.astype(np.float64)), axis=-1)
    band = region & (depth_px <= band_px)
    interior = region & ~band
    return BandErrors(
        float(error[band].sum()), int(band.sum()), float(error[interior].sum()), int(interior.sum())
    )


def _check(original: jax.Array, decoded: jax.Array, mask: jax.Array) -> None:
    check_pair(original, decoded)
    if mask.shape != original.shape[:3]:
        raise UsageError(f"expected a mask {list(original.shape[:3])}, got {list(mask.shape)}")
