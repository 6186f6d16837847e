"""Frechet distance between sets of pictures: of LPIPS features on patches of 64 px, and FID/256.

It tells how unlike the decoded pictures are as a population, whatever their originals look like:
lost texture and made-up texture both raise it. Only FID/256 is a FID; the numbers of the two are
not comparable. The protocol:

1. Each picture is cut into patches of 64 x 64 px, on a grid from its upper left corner and on the
   same grid moved by 32 px both ways, as FID/256 does it with its patches (Mentzer et al., NeurIPS
   2020, A.7). What does not fill a patch is left out, and so are pictures below 64 px.
2. A patch goes through the network of LPIPS by itself. Its feature is the mean over space of the
   last layer that LPIPS compares: 256 channels of AlexNet, 512 of VGG16 and SqueezeNet, without
   normalisation and without LPIPS's weights of channels.
3. The distance is that of the Gaussians with the means and covariances (divided by n - 1) of all
   patches of the originals and of the decoded pictures,
   |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson, Landau 1982; Heusel et al., NeurIPS 2017).

FID/256 (Mentzer et al.) has the same steps with patches of 256 px, grids 128 px apart, and the 2048
features of Inception V3 (`metrics.inception`).

With few patches it is biased upwards, alike for all codecs on the same pictures; compare no figures
of different sets.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics.inception import Inception
from rcodec_jax.metrics.perceptual import Lpips, features

PATCH_PX = 64
FID_PATCH_PX = 256
_BATCH = 64
_FID_BATCH = 8


def patches(pixels: np.ndarray, side_px: int = PATCH_PX) -> np.ndarray:
    """Patches [n, side, side, 3] of a picture [H, W, 3], from both grids, row by row."""
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise UsageError(f"expected a picture [H, W, 3], got {pixels.shape}")
    cut = [
        pixels[top : top + side_px, left : left + side_px]
        for first in (0, side_px // 2)
        for top in range(first, pixels.shape[0] - side_px + 1, side_px)
        for left in range(first, pixels.shape[1] - side_px + 1, side_px)
    ]
    empty = np.zeros((0, side_px, side_px, 3), pixels.dtype)
    return np.stack(cut) if cut else empty


def patch_features(lpips: Lpips, pixels: np.ndarray) -> np.ndarray:
    """LPIPS features float64 [n, C] of the patches of a picture, uint8 [H, W, 3]."""
    return _in_batches(lambda batch: _pooled(lpips, batch), patches(pixels), _BATCH)


def fid_features(inception: Inception, pixels: np.ndarray) -> np.ndarray:
    """Inception features float64 [n, 2048] of the patches of 256 px of uint8 [H, W, 3]."""
    cut = patches(pixels, FID_PATCH_PX)
    return _in_batches(lambda batch: _inception(inception, batch), cut, _FID_BATCH)


def _in_batches(of: Callable[[np.ndarray], jax.Array], cut: np.ndarray, size: int) -> np.ndarray:
    found = []
    for start in range(0, len(cut), size):
        batch = cut[start : start + size]
        # Always as many, so that one program serves all pictures.
        full = np.zeros((size, *cut.shape[1:]), cut.dtype)
        full[: len(batch)] = batch
        found.append(np.asarray(of(full), np.float64)[: len(batch)])
    return np.concatenate(found) if found else np.zeros((0, 0))


class Moments:
    """Count, mean and covariance of features that come in parts; float64, in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: np.ndarray | float = 0.0
        self._products: np.ndarray | float = 0.0

    def add(self, found: np.ndarray) -> None:
        """Takes features [n, C] in; none where n is 0."""
        if len(found):
            self.count += len(found)
            self._sum = self._sum + found.sum(axis=0)
            self._products = self._products + found.T @ found

    @property
    def mean(self) -> np.ndarray:
        """[C]; at least one feature."""
        return np.asarray(self._sum) / self.count

    @property
    def covariance(self) -> np.ndarray:
        """[C, C]; at least two features."""
        centred = np.asarray(self._products) - self.count * np.outer(self.mean, self.mean)
        return centred / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Distance of two sets, at least 0. Raises UsageError if one has fewer than two features."""
    if min(a.count, b.count) < 2:
        raise UsageError(f"expected two patches or more in each set, got {a.count} and {b.count}")
    # (C1 C2)^(1/2) has the eigenvalues of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2).
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root @ b.covariance @ root
    cross = np.sqrt(np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    apart = np.sum((a.mean - b.mean) ** 2)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return max(0.0, float(apart + spread))


@jax.jit
def _pooled(lpips: Lpips, pixels: jax.Array) -> jax.Array:
    return jnp.mean(features(lpips.params, _image(pixels), lpips.net)[-1], axis=(1, 2))


@jax.jit
def _inception(inception: Inception, pixels: jax.Array) -> jax.Array:
    return inception(_image(pixels))


def _image(pixels: jax.Array) -> jax.Array:
    return 2 * (pixels.astype(jnp.float32) / 255) - 1
