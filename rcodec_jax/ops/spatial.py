"""Moves between spatial resolutions: patches, nearest neighbours, level occupancy."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """[B, h*block, w*block, C] -> [B, h, w, block*block*C], channel = (dy*block + dx)*C + c."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // block, block, width // block, block, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, h, w, dy, dx, C]
    return x.reshape(batch, height // block, width // block, block * block * channels)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """[B, h, w, block*block*C] -> [B, h*block, w*block, C], the inverse of `space_to_depth`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, block, block, channels // (block * block))
    x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, h, dy, w, dx, C]
    return x.reshape(batch, height * block, width * block, channels // (block * block))


def upsample_nearest(x: jax.Array, factor: int) -> jax.Array:
    """[B, h, w, C] -> [B, h*factor, w*factor, C] by replication."""
    return jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)


def occupancy(level_map: jax.Array, levels: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """One-hot level map.

    Args:
      level_map: integers [B, h, w] in 0..levels-1.
      levels: number of levels L.

    Returns:
      [B, h, w, L], each row sums to 1.
    """
    return jax.nn.one_hot(level_map, levels, dtype=dtype)


def halve_occupancy(shares: jax.Array) -> jax.Array:
    """Mean over 2x2 blocks with ceil sizes; an odd edge is replicated, so rows still sum to 1.

    Args:
      shares: [B, h, w, L].

    Returns:
      [B, ceil(h/2), ceil(w/2), L].
    """
    batch, height, width, levels = shares.shape
    shares = jnp.pad(shares, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = shares.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, levels)
    return blocks.mean(axis=(2, 4))


def occupancy_pyramid(
    level_map: jax.Array, levels: int, depth: int, dtype: jnp.dtype = jnp.float32
) -> list[jax.Array]:
    """Occupancy at strides 1, 2, 4, ... of the level map.

    Returns:
      `depth` arrays [B, ceil(h / 2^i), ceil(w / 2^i), L].
    """
    pyramid = [occupancy(level_map, levels, dtype)]
    for _ in range(depth - 1):
        pyramid.append(halve_occupancy(pyramid[-1]))
    return pyramid
