"""What gradient descent on the latents of a picture goes down: rate and distortion of its file."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.descent import MSE_WEIGHT, TEXTURE
from rcodec_jax.model.networks import LevelInputs, Networks, Params
from rcodec_jax.model.relaxed import Dithered, code_latent
from rcodec_jax.model.structure import structural_distance
from rcodec_jax.ops.spatial import upsample_nearest

_POINTS = tuple((i + 0.5) / 8 - 0.5 for i in range(8))
"""Quantisation errors over which the rate is averaged: the rate under dither but without noise."""

Array = jax.Array | float


def objective(
    networks: Networks,
    params: Params,
    values: tuple[jax.Array, jax.Array],
    levels: LevelInputs,
    original: jax.Array,
    unscale: Callable[[jax.Array], jax.Array],
    *,
    errors: tuple[Array, Array],
    dither: jax.Array,
    bits: Array,
    structure: Array | None,
    masks: tuple[Array, Array] = (1.0, 1.0),
    inside: Array = 1.0,
) -> jax.Array:
    """Rate and weighted distortion of pictures, in bits.

    Args:
      networks, params: the model.
      values: scaled latent [B, h, w, C], hyper-latent [B, h/4, w/4, Z].
      levels: the maps.
      original: [B, 8h, 8w, 3] in -1..1.
      unscale: scaled latent to what the decoder takes.
      errors: of quantisation: of y in the distortion [B, h, w, C], of z in its rate.
      dither: of the latents, in -1/2..1/2 [B, h, w, C].
      bits: what a bit counts.
      structure: weight of the structural distance; None: it is not computed.
      masks: what counts of latents and hyper-latents [1, h, w, 1].
      inside: what counts of the pixels [1, 8h, 8w, 1].
    """
    quantiser = Dithered(jnp.broadcast_to(errors[0], values[0].shape), _POINTS)
    coded = code_latent(
        networks, params, *values, levels, quantiser=quantiser, z_noise=errors[1], dither=dither
    )
    decoded = networks.decode(params, unscale(coded.clean), coded.hints)
    rate = jnp.sum(coded.bits_y * masks[0]) + jnp.sum(coded.bits_z * masks[1])
    snr = coded.alpha_bar / (1.0 - coded.alpha_bar)
    worth = upsample_nearest(snr, CELL_PX) * inside
    squared = jnp.mean(jnp.square(decoded - original), axis=-1, keepdims=True)
    total = bits * rate + MSE_WEIGHT * jnp.sum(worth * squared)
    if structure is not None:
        worth = upsample_nearest(jnp.sqrt(snr), CELL_PX) * inside
        total += structure * structural_distance(original, decoded, worth, texture=TEXTURE)
    return total
