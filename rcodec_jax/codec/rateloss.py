"""The rate that integers cost: the frozen hyper-synthesis against the float network it was made of.

Both give a prior for the same hyper-latents; what the latents cost under each, by the same density,
is the difference that freezing makes (DESIGN section 4 wants it below 0.3 %).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.codec.bundle import Bundle
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.networks import LevelInputs, Networks, Params
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import PRIOR_BITS
from rcodec_jax.ops.densities import SCALE_MAX, SCALE_MIN, gaussian_bits
from rcodec_jax.regions.levelmap import LevelMap, uniform_level_map

NODES = (120, 250, 400, 600, 800)


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
    bundle: Bundle,
    params: Params,
    pictures: Iterable[np.ndarray],
    *,
    nodes: Sequence[int] = NODES,
    programs: Programs | None = None,
) -> dict[int, RateLoss]:
    """Measures it on pictures under uniform maps.

    Args:
      bundle: the frozen model.
      params: `hyper_synthesis` as it was trained (of the run; thawing gives back its rounded form).
      pictures: uint8 [H, W, 3]; each is measured with its extension to a bucket.
      nodes: of the maps.
      programs: the bundle's, if they are compiled already.

    Returns:
      The loss by node, all pictures together.
    """
    networks = Networks(bundle.config)
    programs = programs or Programs(bundle)

    @jax.jit
    def predict(
        z: jax.Array, level_map: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        mean, log2_sigma, _ = networks.hyper_decode(params, z, LevelInputs.of(level_map, nodes))
        return mean[0], log2_sigma[0]

    totals = {node: np.zeros(2) for node in nodes}
    for y in map(programs.latent, pictures):
        for node in nodes:
            levels = uniform_level_map(*y.shape[:2], node=node)
            z = programs.hyper(y, levels)
            trained = predict(
                jnp.asarray(z[None], jnp.float32), levels.level_map[None], levels.nodes[None]
            )
            prior = bundle.integers.predict(z, levels.nodes, levels.level_map)
            frozen = [
                jnp.asarray(a / 2.0**PRIOR_BITS, jnp.float32)
                for a in (prior.mean, prior.log2_sigma)
            ]
            totals[node] += [
                prior_bits(y, trained[0], trained[1], levels),
                prior_bits(y, frozen[0], frozen[1], levels),
            ]
    return {node: RateLoss(*map(float, total)) for node, total in totals.items()}


def prior_bits(
    y: np.ndarray, mean: jax.Array, log2_sigma: jax.Array, levels: LevelMap, points: int = 64
) -> float:
    """Bits of y under a prior, averaged over uniform noise by the midpoint rule.

    Args:
      y, mean, log2_sigma: [h, w, C]; levels: [h, w].
      points: of the rule.
    """
    log2_s = jnp.asarray(node_table().log2_scale[levels.node_map][..., None], jnp.float32)
    scale = jnp.exp2(jnp.clip(log2_sigma + log2_s, np.log2(SCALE_MIN), np.log2(SCALE_MAX)))
    e = ((jnp.arange(points) + 0.5) / points - 0.5).reshape(-1, 1, 1, 1)
    v = (jnp.exp2(log2_s) * (jnp.asarray(y) - mean))[None] + e
    return float(jnp.sum(gaussian_bits(v, scale[None]))) / points
