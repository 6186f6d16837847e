"""Deterministic DDIM with a timestep of its own for every cell (DESIGN section 2, "Sampler")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

Prediction = Literal["epsilon", "v", "sample"]
Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""(x [B,h,w,C], levels_t [B,L]) -> raw network output [B,h,w,C]."""


def clean_and_noise(
    x: jax.Array, output: jax.Array, signal: jax.Array, noise: jax.Array, prediction: Prediction
) -> tuple[jax.Array, jax.Array]:
    """Splits a noisy latent by what the network says of it.

    Args:
      x: noisy latent [B, h, w, C] = signal * x0 + noise * epsilon.
      output: network output of the same shape: epsilon, v = signal * epsilon - noise * x0, or x0.
      signal: sqrt(abar) by cell, broadcastable.
      noise: sqrt(1 - abar) by cell, broadcastable.
      prediction: which of the three the network gives.

    Returns:
      (x0, epsilon).
    """
    if prediction == "v":
        return signal * x - noise * output, noise * x + signal * output
    if prediction == "epsilon":
        return (x - noise * output) / signal, output
    if prediction == "sample":
        return output, (x - signal * output) / noise
    raise ValueError(f"prediction must be epsilon, v or sample, got {prediction!r}")


def per_cell(values: jax.Array, level_map: jax.Array) -> jax.Array:
    """Spreads per-level values [B, L] over a level map [B, h, w] -> [B, h, w, 1]."""
    batch = jnp.arange(level_map.shape[0])[:, None, None]
    return values[batch, level_map][..., None]


def ddim(
    denoise: Denoise,
    x: jax.Array,
    level_map: jax.Array,
    levels_t: jax.Array,
    alpha_bar: jax.Array,
    steps: jax.Array | int,
    prediction: Prediction,
) -> jax.Array:
    """Denoises every cell from its own timestep to a clean latent.

    Args:
      denoise: the network, with everything but x and the levels' timesteps bound.
      x: dequantised latent [B, h, w, C] at the files' timesteps.
      level_map: integers [B, h, w].
      levels_t: [S, B, L] timesteps of the levels at each step, S >= steps (rows past `steps`
        are padding, so that one compiled program serves every number of steps).
      alpha_bar: [S, B, L] abar at those timesteps.
      steps: number of denoiser evaluations, 1..S; may be traced.
      prediction: what the network predicts.

    Returns:
      x0 [B, h, w, C], the last step's estimate of the clean latent.
    """

    def evaluate(x: jax.Array, i: jax.Array | int) -> tuple[jax.Array, jax.Array]:
        abar = per_cell(alpha_bar[i], level_map)
        output = denoise(x, levels_t[i])
        return clean_and_noise(x, output, jnp.sqrt(abar), jnp.sqrt(1.0 - abar), prediction)

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        clean, epsilon = evaluate(x, i)
        abar = per_cell(alpha_bar[i + 1], level_map)
        return jnp.sqrt(abar) * clean + jnp.sqrt(1.0 - abar) * epsilon

    last = steps - 1
    x = jax.lax.fori_loop(0, last, step, x)
    return evaluate(x, last)[0]
