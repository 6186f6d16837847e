"""What a decoder takes a dequantised residual for, before the denoiser is asked."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.levels import SCALE_MAX, SCALE_MIN

_PER_STEP = 64  # centroids of |u| in 0..1


def wiener_share(sigma: jax.Array) -> jax.Array:
    """Share of u that is the best linear estimate of v = u - e.

    Args:
      sigma: deviation of v, in quantiser steps; e is uniform or anything else of variance 1/12.
    """
    variance = jnp.square(sigma)
    return variance / (variance + 1.0 / 12.0)


def sigma_level(sigma: jax.Array, levels: int) -> jax.Array:
    """sigma as a level of tables, 0..levels - 1, between them too."""
    step = (np.log2(SCALE_MAX) - np.log2(SCALE_MIN)) / (levels - 1)
    return (jnp.log2(sigma) - np.log2(SCALE_MIN)) / step


def centroid(table: jax.Array, u: jax.Array, sigma: jax.Array) -> jax.Array:
    """Centroids of dequantised residuals, by a table as `entropy.Centroids` has it.

    Args:
      table: float32 [levels, n], in quantiser steps.
      u: j - g, or what stands for it, in quantiser steps.
      sigma: deviation of the residual in quantiser steps, in SCALE_MIN..SCALE_MAX, shaped as u.
    """
    levels, size = table.shape
    level = jnp.floor(sigma_level(sigma, levels) + 0.5).astype(jnp.int32)
    distance = jnp.abs(u)
    at = jnp.minimum(jnp.floor(distance * _PER_STEP), size - 1).astype(jnp.int32)
    near = jnp.take(table.reshape(-1), level * size + at, mode="clip")
    return jnp.sign(u) * (near + jnp.maximum(distance - (size - 0.5) / _PER_STEP, 0.0))
