"""Deterministic DDIM with a timestep of its own for every cell.

See the package's README, "Denoiser and sampler".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.diffusion.estimates import centroid
from rcodec_jax.diffusion.schedule import NoiseSchedule, Trajectory, alpha_bar, trajectory
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN

Prediction = Literal["epsilon", "v", "sample", "residual"]

X = TypeVar("X")
Pair = tuple[jax.Array, jax.Array]

Denoise = Callable[[jax.Array, np.ndarray], jax.Array]
"""(x [B,h,w,C], levels_t [B,L]) -> raw network output [B,h,w,C]."""


def clean_and_noise(
    x: jax.Array,
    output: jax.Array,
    signal: jax.Array,
    noise: jax.Array,
    prediction: Prediction,
    prior: jax.Array | None = None,
    estimate: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Splits a noisy latent by what the network says of it.

    Args:
      x: noisy latent [B, h, w, C] = signal * x0 + noise * epsilon.
      output: network output of the same shape: epsilon, v = signal * epsilon - noise * x0, x0, or
        what an estimate of x0 by the prior is wrong by, in the deviations of Wiener's.
      signal: sqrt(abar) by cell, broadcastable.
      noise: sqrt(1 - abar) by cell, broadcastable.
      prediction: which of the four the network gives.
      prior: mean and log2 sigma of x0 [B, h, w, 2C], needed for "residual".
      estimate: of x0, which "residual" corrects; None for Wiener's.

    Returns:
      (x0, epsilon).
    """
    if prediction == "v":
        return signal * x - noise * output, noise * x + signal * output
    if prediction == "epsilon":
        return (x - noise * output) / signal, output
    if prediction == "sample":
        return output, (x - signal * output) / noise
    if prediction == "residual" and prior is not None:
        linear, deviation = linear_estimate(x, prior, signal, noise)
        clean = (linear if estimate is None else estimate) + deviation * output
        return clean, (x - signal * clean) / noise
    raise ValueError(
        f"prediction must be epsilon, v, sample or (with a prior) residual, got {prediction!r}"
    )


def linear_estimate(
    x: jax.Array, prior: jax.Array, signal: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Wiener's estimate of x0 from x = signal * x0 + noise * epsilon.

    Args:
      x: noisy latent [B, h, w, C].
      prior: mean and log2 sigma of x0 [B, h, w, 2C].
      signal, noise: by cell, broadcastable.

    Returns:
      (mean, deviation) of x0 given x, were both Gaussian, [B, h, w, C].
    """
    mean, log2_sigma = jnp.split(prior, 2, axis=-1)
    variance = jnp.exp2(2.0 * log2_sigma)
    total = jnp.square(signal) * variance + jnp.square(noise)
    clean = mean + variance * signal / total * (x - signal * mean)
    return clean, noise * jnp.sqrt(variance / total)


def per_cell(values: jax.typing.ArrayLike, level_map: jax.Array) -> jax.Array:
    """Spreads per-level values [B, L] over a level map [B, h, w] -> [B, h, w, 1]."""
    batch = jnp.arange(level_map.shape[0])[:, None, None]
    return jnp.asarray(values, jnp.float32)[batch, level_map][..., None]


@jax.jit
def by_centroids(
    x: jax.Array,
    level_map: jax.Array,
    abar: jax.typing.ArrayLike,
    prior: jax.Array,
    centroids: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What a denoiser of a model with centroids is given in place of x, and what it corrects.

    Args:
      x, level_map, prior: as for `ddim`.
      abar: of the levels [B, L].
      centroids: float32 [64, 192], see `diffusion.estimates.centroid`.

    Returns:
      (sqrt(abar) times the estimate, the estimate of x0 by centroids), [B, h, w, C] each.
    """
    now = per_cell(abar, level_map)
    signal, delta = jnp.sqrt(now), jnp.sqrt(12.0 * (1.0 - now))
    mean, log2_sigma = jnp.split(prior, 2, axis=-1)
    sigma = jnp.clip(jnp.exp2(log2_sigma) * signal / delta, SCALE_MIN, SCALE_MAX)
    u = (x - signal * mean) / delta
    estimate = mean + centroid(centroids, u, sigma) * delta / signal
    return signal * estimate, estimate


def ddim(
    denoise: Denoise,
    x: jax.Array,
    level_map: jax.Array,
    levels_t: np.ndarray,
    *,
    steps: int,
    prediction: Prediction,
    schedule: NoiseSchedule,
    kind: Trajectory = "proportional",
    prior: jax.Array | None = None,
    centroids: jax.Array | None = None,
) -> jax.Array:
    """Denoises every cell from its own timestep to a clean latent.

    The loop runs on the host, so that the network may be compiled once for any number of steps
    and may itself work through a large picture in tiles.

    Args:
      denoise: the network, with everything but x and the levels' timesteps bound.
      x: dequantised latent [B, h, w, C] at the file's timesteps.
      level_map: integers [B, h, w].
      levels_t: timesteps of the levels [B, L], 0..999.
      steps: number of denoiser evaluations N, at least 1.
      prediction: what the network predicts.
      schedule: what the timesteps mean.
      kind: how timesteps fall, see `schedule.trajectory`.
      prior: see `clean_and_noise`.
      centroids: see `by_centroids`, with a prior; None for linear estimates.

    Returns:
      x0 [B, h, w, C], the last evaluation's estimate of the clean latent.
    """

    def step(x: jax.Array, t: np.ndarray, now: np.ndarray, then: np.ndarray) -> Pair:
        given, estimate = x, None
        if centroids is not None and prior is not None:
            given, estimate = by_centroids(x, level_map, now, prior, centroids)
        return advance(x, denoise(given, t), level_map, now, then, prior, estimate, prediction)

    return walk(step, x, levels_t, steps=steps, schedule=schedule, kind=kind)


def walk(
    step: Callable[[X, np.ndarray, np.ndarray, np.ndarray], tuple[X, X]],
    x: X,
    levels_t: np.ndarray,
    *,
    steps: int,
    schedule: NoiseSchedule,
    kind: Trajectory = "proportional",
) -> X:
    """The loop of `ddim`, for those who take its steps in tiles.

    Args:
      step: takes x, timesteps of the levels and their abar now and then [B, L]; gives x0 and the
        next x, which nobody looks at after the last step.
      x: where it begins.
      levels_t, steps, schedule, kind: as for `ddim`.

    Returns:
      The last step's x0.
    """
    times = trajectory(levels_t, steps, kind)
    abars = [np.asarray(alpha_bar(t, schedule), np.float32) for t in times]
    clean = x
    for i, t in enumerate(times):
        clean, x = step(x, t, abars[i], abars[min(i + 1, steps - 1)])
    return clean


@functools.partial(jax.jit, static_argnames="prediction")
def advance(
    x: jax.Array,
    output: jax.Array,
    level_map: jax.Array,
    abar: jax.typing.ArrayLike,
    after: jax.typing.ArrayLike,
    prior: jax.Array | None,
    estimate: jax.Array | None,
    prediction: Prediction,
) -> tuple[jax.Array, jax.Array]:
    """A step of `ddim`: (x0, x at the next timestep); abar of the levels now and then [B, L]."""
    now, then = per_cell(abar, level_map), per_cell(after, level_map)
    signal, noise = jnp.sqrt(now), jnp.sqrt(1.0 - now)
    clean, epsilon = clean_and_noise(x, output, signal, noise, prediction, prior, estimate)
    return clean, jnp.sqrt(then) * clean + jnp.sqrt(1.0 - then) * epsilon
