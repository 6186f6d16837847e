"""Rounding with the gradients that training needs."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def round_half_up(x: jax.Array) -> jax.Array:
    """floor(x + 1/2): the one rounding rule of the format (ties go up)."""
    return jnp.floor(x + 0.5)


def round_straight_through(x: jax.Array) -> jax.Array:
    """Rounds in the forward pass, is the identity for the gradient."""
    return x + jax.lax.stop_gradient(round_half_up(x) - x)


def clip_straight_through(x: jax.Array, low: float, high: float) -> jax.Array:
    """Clips in the forward pass; the gradient vanishes only where it would push further out.

    A plain clip has no gradient outside the range, so a parameter that strays there stays there.
    """
    clipped = jnp.clip(x, low, high)
    return _pull_back(x, clipped)


@jax.custom_vjp
def _pull_back(x: jax.Array, clipped: jax.Array) -> jax.Array:
    return clipped


def _pull_back_forward(
    x: jax.Array, clipped: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return clipped, (x, clipped)


def _pull_back_backward(
    residual: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, clipped = residual
    # Descent moves x by -grad: inside it may move freely, outside only towards the range.
    towards = ((x > clipped) & (grad > 0)) | ((x < clipped) & (grad < 0)) | (x == clipped)
    return jnp.where(towards, grad, 0.0), jnp.zeros_like(grad)


_pull_back.defvjp(_pull_back_forward, _pull_back_backward)
