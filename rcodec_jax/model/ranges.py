"""Ranges of the integer networks' twins for weights whose training did not track them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.levels import HYPER_STRIDE, MAX_LEVELS, NODE_SPAN, nodes_per_class
from rcodec_jax.model.networks import LevelInputs, Networks, Params, tracked_ranges
from rcodec_jax.nn.hyperprior import LOG_SCALE_MAX, LOG_SCALE_MIN
from rcodec_jax.passes import CONTEXTS, STRIDES, first_half, hyper_order

_CELLS = 64
"""Side in latent cells of the made level maps."""


def measured_ranges(config: ModelConfig, params: Params, *, seed: int = 0) -> dict[str, float]:
    """Largest magnitude of each activation on made hyper-latents and latents.

    For every class of the nodes that the model has, z is drawn from its own static prior, which is
    what training fits to the z of pictures, under one map of a single level and one of 16 levels in
    random blocks; the latent is drawn from the prior that z gives. Freezing adds headroom to the
    result, and what still lies beyond it saturates, alike in encoder and decoder: too small a
    range costs rate, never exactness, which freezing proves on the integers themselves.

    Args:
      config: the model's shape.
      params: with the keys of the parts that freezing turns into integers.
      seed: of z and maps.

    Returns:
      What `fixedpoint.integer_part` takes as ranges.
    """
    rng = np.random.default_rng(seed)
    networks = Networks(config)
    prior = {name: np.asarray(value, np.float64) for name, value in params["hyper_prior"].items()}
    scale = np.exp(np.clip(prior["log_scale"], LOG_SCALE_MIN, LOG_SCALE_MAX))

    # Latents have a mean variance of 1 over channels, where made hyper-latents may promise more.
    log2_largest = float(np.log2(config.latent_channels) / 2)

    @jax.jit
    def reach(
        params: Any, z: jax.Array, normal: jax.Array, level_map: jax.Array, nodes: jax.Array
    ) -> Any:
        inputs = LevelInputs.of(level_map, nodes)
        mean, log2_sigma, found = networks.hyper_decode(params, z, inputs)
        if config.hyper.context:
            prior = jnp.concatenate([mean, log2_sigma], axis=-1)
            sigma = jnp.exp2(jnp.minimum(log2_sigma, log2_largest))
            value = jnp.where(first_half(*mean.shape[1:]), sigma * normal, 0)
            found |= networks.hyper_refine(params, prior, value, inputs)[2]
        return found

    hyper_cells = _CELLS // HYPER_STRIDE
    ranges = dict.fromkeys(tracked_ranges(config), 0.0)
    # Nodes that neither training nor files have would tell of extrapolation alone.
    first, last = config.node_range
    per_class = nodes_per_class(config.hyper.classes)
    for k in range(first // per_class, last // per_class + 1):
        low = max(k * per_class, first)
        # Without the far tails: in thousands of draws they are what pictures never come near.
        share = rng.uniform(1e-4, 1.0 - 1e-4, (1, hyper_cells, hyper_cells, scale.shape[-1]))
        logistic = np.log(share) - np.log1p(-share)
        z = np.round(_draw(prior, scale, k, logistic))
        blocks = rng.integers(0, MAX_LEVELS, (_CELLS // 8, _CELLS // 8))
        mixed = np.kron(blocks, np.ones((8, 8), np.int32))[None]
        nodes = np.linspace(low, min(low + NODE_SPAN, last), MAX_LEVELS).round()[None]
        for level_map in (np.zeros_like(mixed), mixed):
            normal = rng.standard_normal((1, _CELLS, _CELLS, config.latent_channels))
            found = reach(
                {
                    part: params[part]
                    for part in ("hyper_synthesis", "hyper_context")
                    if part in params
                },
                jnp.asarray(z, jnp.float32),
                jnp.asarray(normal, jnp.float32),
                jnp.asarray(level_map, jnp.int32),
                jnp.asarray(nodes, jnp.int32),
            )
            for name in found:
                ranges[name] = max(ranges[name], float(found[name]))
    return ranges


def _draw(
    prior: dict[str, np.ndarray], scale: np.ndarray, k: int, logistic: np.ndarray
) -> np.ndarray:
    """Hyper-latents of class k from standard logistic numbers [1, hz, wz, Z]."""
    if "weight" not in prior:
        return np.asarray(prior["mean"][k] + scale[k] * logistic)
    shape = logistic.shape[1:]
    number, corners = hyper_order(*shape[:2])
    z, noise = np.zeros((shape[0] * shape[1], shape[2])), logistic.reshape(-1, shape[2])
    for i in range(len(STRIDES)):
        at = np.flatnonzero(number == i)
        around = z[corners.reshape(4, -1)[:, at]]
        spread = np.minimum(around.max(axis=0) - around.min(axis=0), CONTEXTS - 2)
        context = (1 + spread if i else 0 * spread).astype(np.int64)
        chosen = (k, context, np.arange(shape[2]))
        centre = prior["weight"] * around.mean(axis=0) if i else 0.0
        z[at] = np.round(centre + prior["mean"][chosen] + scale[chosen] * noise[at])
    return z.reshape(logistic.shape)
