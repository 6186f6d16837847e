"""Ranges of the hyper-synthesis for weights whose training did not track them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.codec.networks import LevelInputs, Networks, Params, tracked_ranges
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.levels import MAX_LEVELS, NODE_COUNT, SPAN, nodes_per_class
from rcodec_jax.nn.hyperprior import HYPER_STRIDE, LOG_SCALE_MAX, LOG_SCALE_MIN

_CELLS = 64
"""Side in latent cells of the made level maps."""


def measured_ranges(config: ModelConfig, params: Params, *, seed: int = 0) -> dict[str, float]:
    """Largest magnitude of each activation of the hyper-synthesis on made hyper-latents.

    For every class of nodes z is drawn from the model's own static prior, which is what training
    fits to the z of pictures, under one map of a single level and one of 16 levels in random
    blocks. Freezing adds headroom to the result, and what still lies beyond it saturates, alike in
    encoder and decoder: too small a range costs rate, never exactness, which freezing proves on the
    integers themselves.

    Args:
      config: the model's shape.
      params: with the keys "hyper_synthesis" and "hyper_prior".
      seed: of z and maps.

    Returns:
      What `fixedpoint.integer_part` takes as ranges.
    """
    rng = np.random.default_rng(seed)
    networks = Networks(config)
    prior = {name: np.asarray(value, np.float64) for name, value in params["hyper_prior"].items()}
    scale = np.exp(np.clip(prior["log_scale"], LOG_SCALE_MIN, LOG_SCALE_MAX))

    @jax.jit
    def reach(synthesis: Any, z: jax.Array, level_map: jax.Array, nodes: jax.Array) -> Any:
        inputs = LevelInputs.of(level_map, nodes)
        return networks.hyper_decode({"hyper_synthesis": synthesis}, z, inputs)[2]

    hyper_cells = _CELLS // HYPER_STRIDE
    ranges = dict.fromkeys(tracked_ranges(config), 0.0)
    for k in range(config.hyper.classes):
        low = k * nodes_per_class(config.hyper.classes)
        share = rng.uniform(1e-6, 1.0 - 1e-6, (1, hyper_cells, hyper_cells, scale.shape[1]))
        logistic = np.log(share) - np.log1p(-share)
        z = np.round(prior["mean"][k] + scale[k] * logistic)
        blocks = rng.integers(0, MAX_LEVELS, (_CELLS // 8, _CELLS // 8))
        mixed = np.kron(blocks, np.ones((8, 8), np.int32))[None]
        nodes = np.linspace(low, min(low + SPAN, NODE_COUNT - 1), MAX_LEVELS).round()[None]
        for level_map in (np.zeros_like(mixed), mixed):
            found = reach(
                params["hyper_synthesis"],
                jnp.asarray(z, jnp.float32),
                jnp.asarray(level_map, jnp.int32),
                jnp.asarray(nodes, jnp.int32),
            )
            for name in found:
                ranges[name] = max(ranges[name], float(found[name]))
    return ranges
