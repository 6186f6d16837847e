"""A picture through the codec as training sees it: noise for quantisation, one step to decode.

Uniform noise stands for dithered quantisation, which it equals in distribution (arXiv 2604.01122),
so the rate of y needs no surrogate; that of z does.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from rcodec_jax.codec import relaxed
from rcodec_jax.codec.networks import LevelInputs, Networks, Params
from rcodec_jax.codec.relaxed import Coded
from rcodec_jax.diffusion.forward import uniform_noise
from rcodec_jax.nn.hyperprior import HYPER_STRIDE


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


def code_latent(
    networks: Networks, params: Params, y: jax.Array, levels: LevelInputs, *, noise: Noise
) -> Coded:
    """Codes a scaled latent y [B, h, w, C] at the levels' timesteps and denoises it in one step."""
    z = networks.hyper_encode(params, y, levels)
    return relaxed.code_latent(
        networks, params, y, z, levels, error=lambda *_: noise.y, z_noise=noise.z
    )
