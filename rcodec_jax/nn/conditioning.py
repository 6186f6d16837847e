"""Spatial timestep conditioning at the cost of a scalar one (package README).

A file has at most 16 levels, so embedding, SiLU and every block's projection run on L rows; only
the result is mixed over space by the occupancy of the levels. Mixing before the SiLU is wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcodec_jax.ops.spatial import occupancy_pyramid


class Conditioning(NamedTuple):
    """What blocks need to know of the timestep map.

    Attributes:
      rows: silu(embedding) of each level [B, L, D].
      occupancy: shares of the levels at strides 1, 2, 4, ...: [B, h_i, w_i, L] each.
    """

    rows: jax.Array
    occupancy: tuple[jax.Array, ...]


def timestep_embedding(t: jax.Array, features: int) -> jax.Array:
    """Sinusoids [..., features], an even number, of timesteps t [...], cosines first as in SD."""
    half = features // 2
    frequencies = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t.astype(jnp.float32)[..., None] * frequencies.reshape((1,) * t.ndim + (half,))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class LevelEmbedding(nn.Module):
    """Timesteps of the levels -> rows every block projects from.

    Attributes:
      base: channels of the sinusoidal embedding.
      features: channels D of the rows.
    """

    base: int
    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels_t: jax.Array) -> jax.Array:
        """levels_t [B, L] in 0..999 -> silu(embedding) [B, L, D]."""
        x = timestep_embedding(levels_t, self.base).astype(self.dtype)
        x = nn.silu(nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x))
        return nn.silu(nn.Dense(self.features, dtype=self.dtype, name="linear_2")(x))


class LevelProjection(nn.Module):
    """A block's own projection of the level rows, mixed over space."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, conditioning: Conditioning, depth: int) -> jax.Array:
        """-> [B, h, w, features] at the resolution of occupancy `depth`."""
        rows = nn.Dense(self.features, dtype=self.dtype, name="linear")(conditioning.rows)
        return jnp.einsum("bhwl,blc->bhwc", conditioning.occupancy[depth], rows)


def condition(
    rows: jax.Array, level_map: jax.Array, depth: int, dtype: jnp.dtype = jnp.float32
) -> Conditioning:
    """Binds level rows [B, L, D] to a level map [B, h, w] at `depth` resolutions."""
    pyramid = occupancy_pyramid(level_map, rows.shape[1], depth, dtype)
    return Conditioning(rows, tuple(pyramid))
