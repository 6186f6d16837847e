"""Latents as encoders refine them, for training: a decoder learns from what it will be given."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rcodec_jax.model.descent import RATE_WEIGHTS, STRUCTURE_WEIGHTS, State, adam, schedule
from rcodec_jax.model.networks import LevelInputs, Networks, Params, node_values
from rcodec_jax.model.objective import objective
from rcodec_jax.ops.rounding import round_half_up

TUNE = "balanced"
"""That of encoders unless they are told otherwise."""


def descended(
    networks: Networks,
    params: Params,
    y: jax.Array,
    original: jax.Array,
    levels: LevelInputs,
    dither: jax.Array,
    unscale: Callable[[jax.Array], jax.Array],
    steps: int,
) -> jax.Array:
    """Latents of a batch after some steps of the encoder's gradient descent.

    Args:
      networks, params: the model, as it is at this step.
      y: scaled latents [B, h, w, C].
      original: the pictures [B, 8h, 8w, 3] in -1..1.
      levels: their maps.
      dither: of the latents, in -1/2..1/2 [B, h, w, C].
      unscale: scaled latent to what the decoder takes.
      steps: of a short descent, 1..`descent.SHORT`: hyper-latents stay as they are.

    Returns:
      [B, h, w, C]; its gradient is that of y, as if each latent had moved by a constant.
    """
    params, start = jax.lax.stop_gradient((params, y))
    z = round_half_up(networks.hyper_encode(params, start, levels))
    plan = schedule(steps)
    quantiser_step = jnp.exp2(-node_values(networks.config)["log2_scale"][levels.node_map])

    def total(parts: tuple[jax.Array, ...]) -> jax.Array:
        return objective(
            networks, params, (parts[0], z), levels, original, unscale,
            errors=(0.0, 0.0), dither=dither,
            bits=RATE_WEIGHTS[TUNE], structure=STRUCTURE_WEIGHTS[TUNE],
        )  # fmt: skip

    zero = (jnp.zeros_like(start),)
    state = State((start,), zero, zero)
    for step in range(steps):
        rates = (plan.rate(step) * quantiser_step[..., None],)
        gradients = jax.grad(total)(state.values)
        state = adam(state, gradients, jnp.float32(step), rates, (jnp.ones(()),))
    return y + jax.lax.stop_gradient(state.values[0] - start)
