"""A picture through the codec as training sees it: noise for quantisation, one step to decode.

Uniform noise stands for dithered quantisation, which it equals in distribution (arXiv 2604.01122),
so the rate of y needs no surrogate; that of z does. Encoders leave out integers that are not worth
their bits, and so may training: then noise is the dither.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from rcodec_jax.diffusion.forward import gaussian_noise, uniform_noise
from rcodec_jax.levels import HYPER_STRIDE
from rcodec_jax.model import relaxed
from rcodec_jax.model.networks import LevelInputs, Networks, Params
from rcodec_jax.model.relaxed import Coded, Dithered, Quantiser
from rcodec_jax.model.rounding import as_encoded


class Noise(NamedTuple):
    """What stands for quantisation in a step: of variance 1/12, uniform in [-1/2, 1/2].

    Attributes:
      y: of the latents [B, h, w, C].
      z: of the hyper-latents [B, h/4, w/4, Z].
    """

    y: jax.Array
    z: jax.Array

    @classmethod
    def draw(
        cls, key: jax.Array, latent: tuple[int, ...], hyper_channels: int, kind: str = "uniform"
    ) -> Noise:
        """The noise of a whole batch of latents of shape [B, h, w, C].

        That of y may be of the kind "gaussian" instead, see `StageConfig.noise`.

        A row's noise follows from the key and its place in the batch alone, so that it is the same
        for any number of devices and micro-batches.
        """
        key_y, key_z = jax.random.split(key)
        batch, height, width, _ = latent
        hyper = (batch, height // HYPER_STRIDE, width // HYPER_STRIDE, hyper_channels)
        draw_y = gaussian_noise if kind == "gaussian" else uniform_noise
        return cls(draw_y(key_y, latent), uniform_noise(key_z, hyper))


def code_latent(
    networks: Networks,
    params: Params,
    y: jax.Array,
    levels: LevelInputs,
    *,
    noise: Noise,
    trim: float | None = 0.0,
) -> Coded:
    """Codes a scaled latent y [B, h, w, C] at the levels' timesteps and denoises it in one step.

    Args:
      trim: bits per squared step if integers are trimmed as files have them, None for those of the
        encoder; 0: they are not.
    """
    z = networks.hyper_encode(params, y, levels)
    centroids = networks.config.hyper.centroids
    quantiser: Quantiser = Dithered(noise.y)
    if trim is None:
        quantiser = as_encoded(noise.y, centroids=centroids)
    elif trim:
        quantiser = as_encoded(noise.y, centroids=centroids, rdoq_lambda=trim)
    return relaxed.code_latent(networks, params, y, z, levels, quantiser=quantiser, z_noise=noise.z)
