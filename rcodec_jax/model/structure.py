"""A distance of pictures by their local structure, for training and refinement: it needs no weights
of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_OPPONENT = np.array(
    [[0.299, 0.5, -0.169], [0.587, -0.419, -0.331], [0.114, -0.081, 0.5]], np.float32
)

_CHANNELS = np.array([1.0, 0.3, 0.3], np.float32).reshape(1, 3, 1, 1)
_FLOOR = 0.02


def structural_distance(
    original: jax.Array, decoded: jax.Array, weight: jax.Array, *, texture: float = 0.0
) -> jax.Array:
    """Distance of locally normalised detail at four scales, summed over pixels.

    Each scale's detail (what a blur takes away) is divided by its local deviation before it is
    compared, as in the normalised Laplacian pyramid (Laparra et al., 2016): what masks an error,
    texture and contrast, counts as the eye has it. The deviations themselves may be compared, too,
    by their ratio: without that the best guess at details that cannot be told is none, which costs
    no bits and leaves a picture too smooth.

    Args:
      original, decoded: [B, H, W, 3] in -1..1, sides multiples of 8.
      weight: worth of each pixel [B, H, W, 1].
      texture: what a squared difference of log deviations counts, beside one of normalised details.

    Returns:
      A scalar, about the sum of the weights times 2 for pictures as rich that have nothing in
      common.
    """
    a, b = (_planes(image) for image in (original, decoded))
    weight = jnp.moveaxis(weight, -1, 1)
    total = jnp.zeros(())
    for level in range(4):
        (detail_a, spread_a), (detail_b, spread_b) = (_normalised(x) for x in (a, b))
        apart = jnp.square(detail_a - detail_b)
        if texture:
            apart += texture * jnp.square(jnp.log(spread_a / spread_b))
        distance = jnp.sum(apart * _CHANNELS, axis=1, keepdims=True)
        total = total + 4.0**level * jnp.sum(weight * distance) / 4.0
        if level < 3:
            a, b, weight = (_halve(x) for x in (a, b, weight))
    return total


def _normalised(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Detail in units of its local deviation, and that deviation."""
    detail = x - _blur(x)
    spread = jnp.sqrt(_blur(jnp.square(detail)) + _FLOOR**2)
    return detail / spread, spread


def _planes(image: jax.Array) -> jax.Array:
    """Opponent colours [B, 3, H, W] of [B, H, W, 3]; loops over three values would be slow."""
    planes = jnp.moveaxis(image, -1, 0)
    mixed = [sum(k * plane for k, plane in zip(row, planes, strict=True)) for row in _OPPONENT.T]
    return jnp.stack(mixed, axis=1)


def _blur(x: jax.Array) -> jax.Array:
    """Mean over 5 x 5 pixels [B, C, H, W], edges repeated.

    As products with matrices: more arithmetic than sums of shifted pictures, and on CPUs a third of
    the time.
    """
    rows, columns = (_means_of_five(side) for side in x.shape[2:])
    x = jnp.einsum("bchw,vw->bchv", x, columns, precision="highest")
    return jnp.einsum("bchw,gh->bcgw", x, rows, precision="highest")


def _means_of_five(side: int) -> np.ndarray:
    """float32 [side, side]; each row makes the mean of a value and two on either side."""
    at = np.clip(np.arange(side)[:, None] + np.arange(-2, 3), 0, side - 1)
    weights = np.zeros((side, side), np.float32)
    np.add.at(weights, (np.arange(side)[:, None], at), 0.2)
    return weights


def _halve(x: jax.Array) -> jax.Array:
    """Mean over 2 x 2 pixels [B, C, H, W]."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
