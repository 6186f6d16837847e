"""A distance of pictures by their local structure, for training and refinement: it needs no weights
of its own."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

_OPPONENT = np.array(
    [[0.299, 0.5, -0.169], [0.587, -0.419, -0.331], [0.114, -0.081, 0.5]], np.float32
)

_CHANNELS = np.array([1.0, 0.3, 0.3], np.float32).reshape(1, 1, 1, 3)
_FLOOR = 0.02


def structural_distance(original: jax.Array, decoded: jax.Array, weight: jax.Array) -> jax.Array:
    """Distance of locally normalised detail at four scales, summed over pixels.

    Each scale's detail (what a blur takes away) is divided by its local deviation before it is
    compared, as in the normalised Laplacian pyramid (Laparra et al., 2016): what masks an error,
    texture and contrast, counts as the eye has it.

    Args:
      original, decoded: [B, H, W, 3] in -1..1, sides multiples of 8.
      weight: worth of each pixel [B, H, W, 1].

    Returns:
      A scalar, about the sum of the weights times 2 for pictures that have nothing in common.
    """
    a, b = (image @ _OPPONENT for image in (original, decoded))
    total = jnp.zeros(())
    for level in range(4):
        details = []
        for x in (a, b):
            detail = x - _blur(x)
            spread = jnp.sqrt(_blur(jnp.square(detail)) + _FLOOR**2)
            details.append(detail / spread)
        distance = jnp.sum(jnp.square(details[0] - details[1]) * _CHANNELS, axis=-1, keepdims=True)
        total = total + 4.0**level * jnp.sum(weight * distance) / 4.0
        if level < 3:
            a, b, weight = (_halve(x) for x in (a, b, weight))
    return total


def _blur(x: jax.Array) -> jax.Array:
    """Mean over 5 x 5 pixels [B, H, W, C], edges repeated."""
    for axis in (1, 2):
        side = x.shape[axis]
        pad = [(2, 2) if i == axis else (0, 0) for i in range(4)]
        wide = jnp.pad(x, pad, mode="edge")
        shifted = [jax.lax.slice_in_dim(wide, i, i + side, axis=axis) for i in range(5)]
        x = functools.reduce(jnp.add, shifted) / 5.0
    return x


def _halve(x: jax.Array) -> jax.Array:
    """Mean over 2 x 2 pixels [B, H, W, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
