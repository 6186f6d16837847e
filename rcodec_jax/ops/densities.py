"""Code lengths of quantised variables under continuous priors, in bits.

The frozen integer tables decide real files; these are their differentiable twins for training.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# What an escape costs in the tables: about 2^-15 for the escape itself, then an Exp-Golomb code
# whose implied density falls as 1 / v^2. It also keeps a gradient alive far out in the tails.
_ESCAPE = 2.0**-15
_SQRT_HALF = math.sqrt(0.5)


def gaussian_bits(v: jax.Array, scale: jax.Array) -> jax.Array:
    """Code length of one dithered Gaussian symbol.

    Args:
      v: s * (y - mu) + e, the centred, scaled variable with uniform noise e in [-1/2, 1/2]; for
        a real file v = j - g, the dequantised integer.
      scale: s * sigma, already within [SCALE_MIN, SCALE_MAX]; broadcasts against v.

    Returns:
      -log2 of Phi((|v| + 1/2) / scale) - Phi((|v| - 1/2) / scale), elementwise, in bits,
      bounded by the cost of an escape (package README, "Rate").
    """
    size = jnp.abs(v)
    inverse = _SQRT_HALF / scale
    # With both arguments on the side where erfc is accurate, the tail keeps its digits.
    upper = jax.lax.erfc((size - 0.5) * inverse)
    lower = jax.lax.erfc((size + 0.5) * inverse)
    return _escape_bits(0.5 * (upper - lower), size)


def laplace_bits(v: jax.Array, scale: jax.Array) -> jax.Array:
    """`gaussian_bits` of a Laplacian of the same deviation, for |v| of at least 1/2."""
    size = jnp.abs(v)
    rate = math.sqrt(2.0) / scale
    probability = 0.5 * jnp.exp((0.5 - size) * rate) * -jnp.expm1(-rate)
    return _escape_bits(probability, size)


def logistic_bits(v: jax.Array, scale: jax.Array) -> jax.Array:
    """Code length of a unit interval around v under a logistic density of mean 0.

    Args:
      v: centred variable (integer or with uniform noise).
      scale: scale of the logistic density, positive; broadcasts against v.

    Returns:
      -log2 of the probability of [v - 1/2, v + 1/2], elementwise, in bits.
    """
    size = jnp.abs(v)
    # sigmoid(b) - sigmoid(a) with both arguments negative: no cancellation in the tail.
    probability = jax.nn.sigmoid((0.5 - size) / scale) - jax.nn.sigmoid((-0.5 - size) / scale)
    return _escape_bits(probability, size)


def _escape_bits(probability: jax.Array, size: jax.Array) -> jax.Array:
    mixed = probability * (1.0 - _ESCAPE) + _ESCAPE / (1.0 + size * size)
    return -jnp.log2(mixed)
