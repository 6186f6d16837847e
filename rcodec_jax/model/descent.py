"""Gradient descent on the latents of a picture: its weights, learning rates and optimiser.

Encoders do it (`codec.refine`), and training may, so that decoders learn from what they will get.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STEPS = (0, 1, 2, 4, 8, 30, 60, 100, 200)
"""Steps of gradient descent at efforts 1..9."""

SHORT = 8
"""Descents of so many steps or fewer leave hyper-latents alone."""

MSE_WEIGHT = 5.0
"""Bits per pixel that a squared error of 1, in -1..1, is worth at a signal-to-noise ratio of 1; the
same as in training, so that quality means the same."""

STRUCTURE_WEIGHTS: dict[str, float] = {"mse": 0.0, "balanced": 0.1, "perceptual": 0.1}
"""The same of the structural distance, times the root of the signal-to-noise ratio; by tune."""

TEXTURE = 1.5
"""What the deviation of local detail counts in it: a descent saves bits on texture otherwise."""

RATE_WEIGHTS: dict[str, float] = {"mse": 1.0, "balanced": 0.6, "perceptual": 0.4}
"""What a bit counts. Fewer bits at the same error make a picture smoother; where looks are what
matters, the descent spends more of them on detail."""

_BETA_1, _BETA_2 = 0.9, 0.99


class Schedule(NamedTuple):
    """How descent goes.

    Attributes:
      steps: their number.
      first, last: learning rates, in between falling by a cosine; of latents in steps of their
        quantiser, as a change of less than a step rarely changes an integer.
      noise: share of the dither's error that the distortion sees, drawn anew in each step; 0 spares
        a short descent the variance, a long one needs it.
      hyper: share of the learning rate that hyper-latents have, whose steps are 1.
    """

    steps: int
    first: float
    last: float
    noise: float
    hyper: float

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        fall = 0.5 * (1.0 + np.cos(np.pi * step / self.steps))
        return float(self.last + (self.first - self.last) * fall)


def schedule(steps: int) -> Schedule:
    """The schedule of so many steps."""
    if steps <= SHORT:  # too few for hyper-latents to move by a whole
        first = 0.06 / max(steps, 2)  # the way is the same: further on, estimates mislead
        return Schedule(steps, first, 0.3 * first, noise=0.0, hyper=0.0)
    return Schedule(steps, 0.01, 0.001, noise=1.0, hyper=1.5)


Parts = tuple[jax.Array, ...]
"""Something of the latents and, where they move too, of the hyper-latents."""


class State(NamedTuple):
    """What descent changes: latents [B, h, w, C], hyper-latents [B, h/4, w/4, Z] and, for each, the
    running means of the gradient and of its square."""

    values: Parts
    means: Parts
    squares: Parts


def adam(state: State, gradients: Parts, number: jax.Array, rates: Parts, shares: Parts) -> State:
    """A step of Adam (Kingma and Ba, 2015), the squares of gradients averaged by channel.

    Element by element, those that matter to nothing would move as far as those that matter, and
    each hyper-latent that does so costs as many bits as ten latents.

    Args:
      state, gradients: 0 beyond the picture's own part.
      number: of the step, from 0.
      rates: learning rates, of an array or of each of its cells.
      shares: shares of the arrays that are the picture's own part.
    """
    grown_1, grown_2 = (1 - beta ** (number + 1) for beta in (_BETA_1, _BETA_2))
    out = []
    for x, m, s, g, rate, share in zip(*state, gradients, rates, shares, strict=True):
        mean = _BETA_1 * m + (1 - _BETA_1) * g
        power = jnp.mean(jnp.square(g), axis=(1, 2), keepdims=True) / share
        square = _BETA_2 * s + (1 - _BETA_2) * power
        move = mean / grown_1 / (jnp.sqrt(square / grown_2) + 1e-12)
        out.append((x - rate * move, mean, square))
    return State(*zip(*out, strict=True))
