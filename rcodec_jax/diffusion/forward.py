"""The forward process: uniform noise, which is what universal quantisation does to a latent."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def uniform_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """e ~ U(-1/2, 1/2), float32 of the given shape."""
    return jax.random.uniform(key, shape, minval=-0.5, maxval=0.5)


def gaussian_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """e ~ N(0, 1/12), of the variance of `uniform_noise`, float32 of the given shape."""
    return jax.random.normal(key, shape) / math.sqrt(12.0)


def diffuse(y: jax.Array, e: jax.Array, alpha_bar: jax.Array, delta: jax.Array) -> jax.Array:
    """x_t = sqrt(abar) y + delta e, the forward process of arXiv 2604.01122 with uniform noise.

    Args:
      y: clean latent [B, h, w, C].
      e: uniform noise of variance 1/12, same shape.
      alpha_bar: signal share by cell, broadcastable [B, h, w, 1].
      delta: bin width by cell, broadcastable [B, h, w, 1].

    Returns:
      The noisy latent, distributed as the dequantised latent of a file.
    """
    return jnp.sqrt(alpha_bar) * y + delta * e
