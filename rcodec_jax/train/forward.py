"""A picture through the codec as training sees it: noise for quantisation, one step to decode.

Uniform noise stands for dithered quantisation, which it equals in distribution (DESIGN section 2),
so the rate of y needs no surrogate; that of z does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcodec_jax.codec.networks import LevelInputs, Networks, Params, node_values
from rcodec_jax.diffusion.forward import diffuse, uniform_noise
from rcodec_jax.diffusion.sampler import clean_and_noise
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.nn.hyperprior import HYPER_STRIDE
from rcodec_jax.ops.densities import gaussian_bits
from rcodec_jax.ops.rounding import clip_straight_through, round_straight_through
from rcodec_jax.passes import first_half


class Noise(NamedTuple):
    """What stands for quantisation in a step, uniform in [-1/2, 1/2].

    Attributes:
      y: of the latents [B, h, w, C].
      z: of the hyper-latents [B, h/4, w/4, Z].
    """

    y: jax.Array
    z: jax.Array

    @classmethod
    def draw(cls, key: jax.Array, latent: tuple[int, ...], hyper_channels: int) -> Noise:
        """The noise of a whole batch of latents of shape [B, h, w, C].

        A row's noise follows from the key and its place in the batch alone, so that it is the same
        for any number of devices and micro-batches.
        """
        key_y, key_z = jax.random.split(key)
        batch, height, width, _ = latent
        hyper = (batch, height // HYPER_STRIDE, width // HYPER_STRIDE, hyper_channels)
        return cls(uniform_noise(key_y, latent), uniform_noise(key_z, hyper))


class Coded(NamedTuple):
    """What becomes of a latent.

    Attributes:
      clean: the denoiser's estimate of y [B, h, w, C].
      bits_y: code length of each latent [B, h, w, C].
      bits_z: code length of each hyper-latent [B, h/4, w/4, Z].
      alpha_bar: signal share of each cell [B, h, w, 1].
      ranges: largest magnitudes in the hyper-synthesis.
    """

    clean: jax.Array
    bits_y: jax.Array
    bits_z: jax.Array
    alpha_bar: jax.Array
    ranges: dict[str, jax.Array]


def code_latent(
    networks: Networks, params: Params, y: jax.Array, levels: LevelInputs, *, noise: Noise
) -> Coded:
    """Codes a scaled latent y [B, h, w, C] at the levels' timesteps and denoises it in one step."""
    table = node_values()
    cells = {name: table[name][levels.node_map][..., None] for name in table}
    alpha_bar, log2_scale = cells["alpha_bar"], cells["log2_scale"]

    # z: noise in the rate, straight-through rounding in the synthesis.
    z = networks.hyper_encode(params, y, levels)
    rounded = round_straight_through(z)
    bits_z = networks.hyper_bits(params, z + noise.z, levels, rounded)
    mean, log2_sigma, ranges = networks.hyper_decode(params, rounded, levels)

    # y: dithered quantisation is uniform noise, for the rate as for the picture.
    noisy = diffuse(y, noise.y, alpha_bar, cells["delta"])

    def within(log2_sigma: jax.Array) -> jax.Array:
        total = log2_sigma + log2_scale
        return clip_straight_through(total, math.log2(SCALE_MIN), math.log2(SCALE_MAX))

    spread = within(log2_sigma)
    if networks.config.hyper.context:
        first = jnp.asarray(first_half(*y.shape[1:]))[None]
        share = jnp.exp2(2.0 * spread)
        value = share / (share + 1.0 / 12.0) * (noisy / jnp.sqrt(alpha_bar) - mean)
        change, stretch, more = networks.hyper_refine(
            params, jnp.concatenate([mean, log2_sigma], axis=-1), jnp.where(first, value, 0), levels
        )
        mean = jnp.where(first, mean, mean + change)
        spread = jnp.where(first, spread, within(log2_sigma + stretch))
        ranges |= more
    bits_y = gaussian_bits(jnp.exp2(log2_scale) * (y - mean) + noise.y, jnp.exp2(spread))

    prior = jnp.concatenate([mean, spread - log2_scale], axis=-1)
    output = networks.denoise(params, noisy, table["t"][levels.nodes], levels.level_map, prior)
    signal, deviation = jnp.sqrt(alpha_bar), jnp.sqrt(1.0 - alpha_bar)
    prediction = networks.config.unet.prediction
    clean, _ = clean_and_noise(noisy, output, signal, deviation, prediction, prior)
    return Coded(clean, bits_y, bits_z, alpha_bar, ranges)
