"""The patchified stem: a scaled block transform instead of raw pixels.

Brightness outweighs fine detail a hundredfold in pixels, so a network fed with raw patches learns
detail last, and with noise in the latent never. An orthonormal cosine transform of opponent colours
with each coefficient brought to about unit variance puts all of them on one footing; the inverse
gives them back their size. Fixed, linear and exactly invertible.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.ops.spatial import depth_to_space, space_to_depth

_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])
"""Opponent colours: luminance, red against blue, green against both; orthonormal rows."""

_COLOUR_SIZES = (1.0, 0.35, 0.2)
"""Their deviations in photographs, relative to luminance."""


@functools.cache
def patch_basis(patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Basis and sizes of the coefficients of a patch.

    Args:
      patch: side P in pixels.

    Returns:
      float32 [3 P^2, 3 P^2], orthonormal rows, columns in the order of `space_to_depth`; and
      float32 [3 P^2], about the deviation of each coefficient for pictures in -1..1.
    """
    n = np.arange(patch)
    cosines = np.cos(np.pi * np.outer(n, 2 * n + 1) / (2 * patch)) * np.sqrt(2.0 / patch)
    cosines[0] /= np.sqrt(2.0)
    basis = np.einsum("uy,vx,kc->uvkyxc", cosines, cosines, _COLOURS)
    radius = np.hypot(n[:, None], n[None, :]) * 4.0 / patch  # 4: the patch the law was set at
    falling = 0.75 * patch / (1.0 + 1.5 * radius) ** 2  # natural pictures: about 1 / f
    sizes = falling[:, :, None] * np.array(_COLOUR_SIZES)
    count = 3 * patch * patch
    return basis.reshape(count, count).astype(np.float32), sizes.reshape(count).astype(np.float32)


def truncation(patch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The block transform code that keeps only the largest coefficients.

    Args:
      patch: side P in pixels.
      count: coefficients to keep, at most 3 P^2.

    Returns:
      Analysis float32 [3 P^2, count], from `to_patches` to a latent of mean square about 1 whose
      channels keep their relative sizes, and synthesis float32 [count, 3 P^2], back to what
      `from_patches` takes.
    """
    _, sizes = patch_basis(patch)
    kept = np.argsort(-sizes, kind="stable")[:count]
    scale = np.sqrt(np.mean(np.square(sizes[kept])))
    analysis = np.zeros((sizes.size, count), np.float32)
    synthesis = np.zeros((count, sizes.size), np.float32)
    analysis[kept, np.arange(count)] = sizes[kept] / scale
    synthesis[np.arange(count), kept] = scale / sizes[kept]
    return analysis, synthesis


def to_patches(image: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, 3] in -1..1 -> [B, H/P, W/P, 3 P^2], coefficients of about unit variance."""
    basis, sizes = patch_basis(patch)
    return space_to_depth(image, patch) @ jnp.asarray((basis / sizes[:, None]).T)


def from_patches(coefficients: jax.Array, patch: int) -> jax.Array:
    """The inverse of `to_patches`."""
    basis, sizes = patch_basis(patch)
    return depth_to_space(coefficients @ jnp.asarray(basis * sizes[:, None]), patch)
