"""A latent through the codec, differentiably: what training and the refinement at encoding share.

Quantisation is an error added to the scaled residual, so all its kinds go the same way: uniform
noise, which dithered quantisation equals in distribution (arXiv 2604.01122; Relic et al., CVPR
2025), or the error of the integers that an encoder writes in fact (`rounding`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rcodec_jax.diffusion.estimates import wiener_share
from rcodec_jax.diffusion.forward import diffuse
from rcodec_jax.diffusion.sampler import clean_and_noise
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.model.networks import LevelInputs, Networks, Params, node_values
from rcodec_jax.ops.densities import gaussian_bits
from rcodec_jax.ops.rounding import clip_straight_through, round_straight_through
from rcodec_jax.passes import first_half


class Quantiser(Protocol):
    """What quantisation adds to v = s (y - mu) of deviation sigma, and what it costs; [B, h, w, C]
    all."""

    def error(self, v: jax.Array, sigma: jax.Array) -> jax.Array:
        """e, v + e being what a file gives back."""
        ...

    def bits(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Code lengths of v + e."""
        ...

    def estimate(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """What a decoder takes v + e for."""
        ...


class Dithered(NamedTuple):
    """A dithered quantiser in theory.

    Attributes:
      noise: e, uniform in [-1/2, 1/2] [B, h, w, C].
      points: errors over which the rate is averaged; none: it is that at e.
    """

    noise: jax.Array
    points: Sequence[float] = ()

    def error(self, v: jax.Array, sigma: jax.Array) -> jax.Array:
        """The noise, whatever is quantised."""
        return self.noise

    def bits(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Code lengths under a Gaussian."""
        if not self.points:
            return gaussian_bits(v + e, sigma)
        total = jnp.zeros_like(v)
        for u in self.points:
            total += gaussian_bits(v + u, sigma) / len(self.points)
        return total

    def estimate(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Wiener's."""
        return wiener_share(sigma) * (v + e)


class Coded(NamedTuple):
    """What becomes of a latent.

    Attributes:
      clean: the denoiser's estimate of y [B, h, w, C].
      bits_y: code length of each latent [B, h, w, C].
      bits_z: code length of each hyper-latent [B, h/4, w/4, Z].
      hints: what the decoder is given beside it [B, h, w, hint_channels].
      alpha_bar: signal share of each cell [B, h, w, 1].
      ranges: largest magnitudes in the integer networks' twins.
    """

    clean: jax.Array
    bits_y: jax.Array
    bits_z: jax.Array
    hints: jax.Array
    alpha_bar: jax.Array
    ranges: dict[str, jax.Array]


def code_latent(
    networks: Networks,
    params: Params,
    y: jax.Array,
    z: jax.Array,
    levels: LevelInputs,
    *,
    quantiser: Quantiser,
    z_noise: jax.Array | float = 0.0,
    dither: jax.Array | None = None,
) -> Coded:
    """Codes a scaled latent at the levels' timesteps and denoises it in one step.

    Args:
      networks, params: the model.
      y: latent [B, h, w, C].
      z: hyper-latent before rounding [B, h/4, w/4, Z]: rounded straight through for the synthesis.
      levels: the map.
      quantiser: of y.
      z_noise: what stands for rounding in the rate of z, which has no exact counterpart; 0 takes
        the rate of z itself.
      dither: that the decoder is told of, in -1/2..1/2 [B, h, w, C]; None for the quantiser's.
    """
    table = node_values(networks.config)
    cells = {name: table[name][levels.node_map][..., None] for name in table}
    alpha_bar, log2_scale, delta = (cells[name] for name in ("alpha_bar", "log2_scale", "delta"))
    scale = jnp.exp2(log2_scale)

    rounded = round_straight_through(z)
    bits_z = networks.hyper_bits(params, z + z_noise, levels, rounded)
    mean, log2_sigma, ranges = networks.hyper_decode(params, rounded, levels)

    def within(log2_sigma: jax.Array) -> jax.Array:
        total = log2_sigma + log2_scale
        return clip_straight_through(total, math.log2(SCALE_MIN), math.log2(SCALE_MAX))

    spread = within(log2_sigma)
    e = quantiser.error(scale * (y - mean), jnp.exp2(spread))
    if networks.config.hyper.context:
        first = jnp.asarray(first_half(*y.shape[1:]))[None]
        value = quantiser.estimate(scale * (y - mean), e, jnp.exp2(spread)) / scale
        change, stretch, more = networks.hyper_refine(
            params, jnp.concatenate([mean, log2_sigma], axis=-1), jnp.where(first, value, 0), levels
        )
        mean = jnp.where(first, mean, mean + change)
        spread = jnp.where(first, spread, within(log2_sigma + stretch))
        e = jnp.where(first, e, quantiser.error(scale * (y - mean), jnp.exp2(spread)))
        ranges |= more
    v, sigma = scale * (y - mean), jnp.exp2(spread)
    bits_y = quantiser.bits(v, e, sigma)

    given = noisy = diffuse(y, e, alpha_bar, delta)
    signal, deviation = jnp.sqrt(alpha_bar), jnp.sqrt(1.0 - alpha_bar)
    estimate = None
    if networks.config.hyper.centroids:  # as `diffusion.sampler.by_centroids`
        estimate = mean + quantiser.estimate(v, e, sigma) / scale
        given = signal * estimate
    prior = jnp.concatenate([mean, spread - log2_scale], axis=-1)
    both = networks.denoise(params, given, table["t"][levels.nodes], levels.level_map, prior)
    output, features = jnp.split(both, [y.shape[-1]], axis=-1)
    # An integer is what v + e and the dither add up to.
    dither = jax.lax.stop_gradient(jnp.floor(v + e + 0.5) - (v + e)) if dither is None else dither
    hints = networks.hints(features, dither)
    prediction = networks.config.unet.prediction
    clean, _ = clean_and_noise(noisy, output, signal, deviation, prediction, prior, estimate)
    return Coded(clean, bits_y, bits_z, hints, alpha_bar, ranges)
