"""Pixels of pictures as networks take and give them."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def to_signed(image: jax.Array) -> jax.Array:
    """uint8 0..255 -> float32 -1..1."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(signed: jax.Array) -> jax.Array:
    """-1..1, clipped -> uint8 0..255, the nearest."""
    return jnp.round(jnp.clip(signed * 127.5 + 127.5, 0.0, 255.0)).astype(jnp.uint8)
