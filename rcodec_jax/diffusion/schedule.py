"""Noise schedules, their 1024 frozen nodes and sampling trajectories.

Derivations are in the package's README, "Schedule and nodes".

Everything here is NumPy float64 on the host: tables, looked up by node or by step. What a file
depends on is frozen to integers in the bundle; these tables steer pixels and training only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from rcodec_jax.levels import NODE_COUNT

STEPS = 1000
"""T: timesteps of a discrete schedule, 0..999."""

NoiseSchedule = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]
"""By diffusers' names: those of Stable Diffusion (Rombach et al., CVPR 2022), of DDPM (Ho et al.,
NeurIPS 2020) and of Nichol and Dhariwal (ICML 2021, cosine)."""

Trajectory = Literal["proportional", "synchronous"]


class NodeTable(NamedTuple):
    """What the timestep determines, by node; float64 [1024] each.

    Attributes:
      t: continuous timestep, 0..999.
      alpha_bar: abar, the share of signal power.
      delta: bin width on the scaled latent, sqrt(12 (1 - abar)).
      log2_scale: log2 s, s = sqrt(abar) / delta; evenly spaced.
    """

    t: np.ndarray
    alpha_bar: np.ndarray
    delta: np.ndarray
    log2_scale: np.ndarray


def _evenly(first: float, last: float) -> np.ndarray:
    return np.linspace(first, last, STEPS, dtype=np.float64)


def _cosine_betas() -> np.ndarray:
    edges = np.cos((np.arange(STEPS + 1) / STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - edges[1:] / edges[:-1], 0.999)


LINEAR: dict[NoiseSchedule, tuple[float, float]] = {
    "scaled_linear": (0.00085, 0.012),
    "linear": (1e-4, 0.02),
}
"""First and last beta; of "scaled_linear" the square roots are evenly spaced."""

BETAS: dict[str, Callable[[], np.ndarray]] = {
    "scaled_linear": lambda: _evenly(*(end**0.5 for end in LINEAR["scaled_linear"])) ** 2,
    "linear": lambda: _evenly(*LINEAR["linear"]),
    "squaredcos_cap_v2": _cosine_betas,
}
"""Variance that each integer timestep adds, float64 [1000] in (0, 1), by schedule."""


@functools.cache
def log_snr(schedule: NoiseSchedule) -> np.ndarray:
    """log(abar / (1 - abar)) at the integer timesteps: float64 [1000], falling."""
    alpha_bar = np.cumprod(1.0 - BETAS[schedule]())
    return np.log(alpha_bar) - np.log1p(-alpha_bar)


def alpha_bar(t: np.ndarray | float, schedule: NoiseSchedule) -> np.ndarray:
    """abar at continuous timesteps, log-SNR interpolated linearly between integers.

    Args:
      t: timesteps in 0..999.
      schedule: the model's, `ModelConfig.noise_schedule`.

    Returns:
      float64, same shape, in (0, 1); below 1 at t = 0 (.99915 for "scaled_linear"), which is not
      clean.
    """
    between = np.interp(np.asarray(t, np.float64), np.arange(STEPS), log_snr(schedule))
    return 1.0 / (1.0 + np.exp(-between))


@functools.cache
def node_table(schedule: NoiseSchedule) -> NodeTable:
    """The 1024 nodes: uniform in log2 s, that is in log-SNR, from t = 0 to t = 999.

    Args:
      schedule: the model's, `ModelConfig.noise_schedule`.
    """
    steps = log_snr(schedule)
    nodes = np.linspace(steps[0], steps[-1], NODE_COUNT)
    t = np.interp(-nodes, -steps, np.arange(STEPS, dtype=np.float64))
    signal = 1.0 / (1.0 + np.exp(-nodes))
    noise = 1.0 / (1.0 + np.exp(nodes))
    delta = np.sqrt(12.0 * noise)
    return NodeTable(t, signal, delta, np.log2(np.sqrt(signal) / delta))


def trajectory(levels_t: np.ndarray, steps: int, kind: Trajectory = "proportional") -> np.ndarray:
    """Timesteps of every level along a decode.

    Args:
      levels_t: timestep of each level, [..., L], in 0..999.
      steps: N, at least 1.
      kind: "proportional", t_i = t (1 - i/N); "synchronous", t_i = min(t, t_max (1 - i/N)).

    Returns:
      float64 [N, ..., L]: where each of the N denoiser evaluations stands.

    Raises:
      ValueError: fewer than one step, or an unknown kind.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    levels_t = np.asarray(levels_t, np.float64)
    left = (1.0 - np.arange(steps) / steps).reshape((steps,) + (1,) * levels_t.ndim)
    if kind == "proportional":
        return left * levels_t
    if kind == "synchronous":
        return np.minimum(levels_t, left * levels_t.max(axis=-1, keepdims=True))
    raise ValueError(f"trajectory must be 'proportional' or 'synchronous', got {kind!r}")
