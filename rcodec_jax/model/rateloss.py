"""The rate that integers cost: frozen networks against the float ones they were made of.

Both give a prior for the same hyper-latents; what the latents cost under each, by the same density,
is the difference that freezing makes; it should stay below 0.3 %.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.diffusion.schedule import NodeTable, node_table
from rcodec_jax.entropy import PRIOR_BITS, IntegerPart, Prior, dither_indices, dither_values
from rcodec_jax.entropy.distributions.centroids import taken_for
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.model.bundle import FLOAT_PARTS
from rcodec_jax.model.networks import LevelInputs, Networks, Params
from rcodec_jax.ops.densities import gaussian_bits
from rcodec_jax.regions.levelmap import LevelMap, uniform_level_map

NODES = (120, 250, 400, 600, 800)
"""Nodes at which freezing looks at the rate."""

MAX_SHARE = 0.003
"""The most that integers may cost, as a share of the rate."""

_CELLS = (32, 48)
"""Latent cells of made latents, those of a picture of 256x384."""


@dataclasses.dataclass(frozen=True, eq=False)
class Latents:
    """What a picture becomes.

    Attributes:
      y: float32 [h, w, C], latent; None to draw it from the float network's own prior.
      z: int32 [hz, wz, Cz], hyper-latents.
      levels: the map.
    """

    y: np.ndarray | None
    z: np.ndarray
    levels: LevelMap


@dataclasses.dataclass(frozen=True)
class RateLoss:
    """Bits of latents under both priors.

    Attributes:
      float_bits: under the float network's.
      integer_bits: under the integer network's.
    """

    float_bits: float
    integer_bits: float

    @property
    def share(self) -> float:
        """What the integers cost more, as a share; below zero if they cost less."""
        return self.integer_bits / self.float_bits - 1


def rate_loss(
    config: ModelConfig, integers: IntegerPart, params: Params, latents: Iterable[Latents]
) -> list[RateLoss]:
    """Measures it, for each of the latents.

    Args:
      config: the model's shape.
      integers: what its hyper-synthesis was frozen to.
      params: the float networks as they were trained (of the run; unfreezing gives back their
        rounded form).
      latents: what to measure it on.
    """
    networks = Networks(config)
    table = node_table(config.noise_schedule)

    @jax.jit
    def predict(
        params: Params, z: jax.Array, level_map: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inputs = LevelInputs.of(level_map, nodes)
        mean, log2_sigma, _ = networks.hyper_decode(params, z, inputs)
        return mean[0], log2_sigma[0]

    @jax.jit
    def refine(
        params: Params, prior: jax.Array, value: jax.Array, level_map: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inputs = LevelInputs.of(level_map, nodes)
        mean, log2_sigma, _ = networks.hyper_refine(params, prior, value, inputs)
        return mean[0], log2_sigma[0]

    entropy_model = {part: params[part] for part in params if part not in FLOAT_PARTS}
    losses = []
    for item in latents:
        levels = item.levels
        maps = levels.level_map[None], levels.nodes[None]
        mean, log2_sigma = predict(entropy_model, jnp.asarray(item.z[None], jnp.float32), *maps)
        prior = integers.predict(item.z, levels)
        y, noise = item.y, None
        if y is None:
            noise = np.random.default_rng(levels.n_lo).standard_normal(mean.shape, np.float32)
            y = np.asarray(mean + jnp.exp2(log2_sigma) * noise)
        if integers.context is not None:
            first, j, value = _first_half(integers, prior, y, levels, table)
            both = jnp.concatenate([mean, log2_sigma], axis=-1)[None]
            change, stretch = refine(entropy_model, both, jnp.asarray(value)[None], *maps)
            mean = jnp.where(first, mean, mean + change)
            log2_sigma = jnp.where(first, log2_sigma, log2_sigma + stretch)
            prior = integers.refine(prior, j, levels)
            if noise is not None:
                y = np.where(first, y, mean + jnp.exp2(log2_sigma) * noise)
        frozen = [
            jnp.asarray(a / 2.0**PRIOR_BITS, jnp.float32) for a in (prior.mean, prior.log2_sigma)
        ]
        losses.append(
            RateLoss(
                prior_bits(y, mean, log2_sigma, levels, table),
                prior_bits(y, frozen[0], frozen[1], levels, table),
            )
        )
    return losses


def _first_half(
    integers: IntegerPart, prior: Prior, y: np.ndarray, levels: LevelMap, table: NodeTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first half of a latent as the context network is told it.

    Returns:
      Which values it is, bool [h, w, C]; j int64 [h, w, C] of the dithered quantiser; estimates of
      y - mean, float32 [h, w, C], 0 at the second half.
    """
    first = integers.halves(*levels.level_map.shape)[0]
    scale = np.exp2(table.log2_scale)[levels.node_map][..., None]
    g = dither_values(dither_indices(*first.shape))
    j = np.floor(scale * (y - prior.mean / 2.0**PRIOR_BITS) + g + 0.5).astype(np.int64)
    sigma = np.clip(scale * np.exp2(prior.log2_sigma / 2.0**PRIOR_BITS), SCALE_MIN, SCALE_MAX)
    index = integers.sigma_index(prior, levels)
    value = taken_for(j - g, sigma, index, integers.centroids) / scale
    return first, j, np.where(first, value, 0).astype(np.float32)


def made_latents(integers: IntegerPart, nodes: Sequence[int]) -> list[Latents]:
    """Latents without pictures, one under a uniform map of each node: z as its tables say."""
    made = []
    for node in nodes:
        levels = uniform_level_map(*_CELLS, node=node)
        words = np.random.Philox(key=node)
        draw = functools.partial(integers.hyper_tables.bank.draw, words=words)
        made.append(Latents(None, integers.read_hyper(levels, draw), levels))
    return made


def prior_bits(
    y: np.ndarray,
    mean: jax.Array,
    log2_sigma: jax.Array,
    levels: LevelMap,
    table: NodeTable,
    points: int = 64,
) -> float:
    """Bits of y under a prior, averaged over uniform noise by the midpoint rule.

    Args:
      y, mean, log2_sigma: [h, w, C]; levels: [h, w].
      table: the nodes of the model's schedule.
      points: of the rule.
    """
    log2_s = jnp.asarray(table.log2_scale[levels.node_map][..., None], jnp.float32)
    scale = jnp.exp2(jnp.clip(log2_sigma + log2_s, np.log2(SCALE_MIN), np.log2(SCALE_MAX)))
    e = ((jnp.arange(points) + 0.5) / points - 0.5).reshape(-1, 1, 1, 1)
    v = (jnp.exp2(log2_s) * (jnp.asarray(y) - mean))[None] + e
    return float(jnp.sum(gaussian_bits(v, scale[None]))) / points
