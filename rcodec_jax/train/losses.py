"""Losses of the three stages; pure functions of parameters, statistics, batch and key.

The unit is bits per pixel. Uniform noise stands for dithered quantisation, which it equals in
distribution (DESIGN section 2), so the rate of y needs no surrogate; that of z does.
"""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp

from rcodec_jax.codec.networks import LevelInputs, Networks, Params, node_values
from rcodec_jax.config.train import LossConfig
from rcodec_jax.diffusion.forward import diffuse, uniform_noise
from rcodec_jax.diffusion.sampler import clean_and_noise
from rcodec_jax.nn.hyperprior import HYPER_STRIDE
from rcodec_jax.ops.densities import SCALE_MAX, SCALE_MIN, gaussian_bits
from rcodec_jax.ops.rounding import clip_straight_through, round_straight_through
from rcodec_jax.ops.spatial import upsample_nearest
from rcodec_jax.train import latents
from rcodec_jax.train.state import Stats

CELL_PX = 8
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class Perceptual(Protocol):
    """A perceptual distance: two [B, H, W, 3] in -1..1 -> [B]."""

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array: ...


def to_signed(image: jax.Array) -> jax.Array:
    """uint8 0..255 -> float32 -1..1."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def pixel_losses(
    original: jax.Array,
    decoded: jax.Array,
    weight: jax.Array,
    loss: LossConfig,
    perceptual: Perceptual | None,
) -> tuple[jax.Array, Metrics]:
    """Weighted distortion.

    Args:
      original, decoded: [B, H, W, 3] in -1..1.
      weight: worth of each cell [B, H/8, W/8, 1].
      loss: weights of the terms.
      perceptual: needed if `loss.lpips` is not 0.
    """
    worth = upsample_nearest(weight, CELL_PX)
    error = decoded - original
    mse = jnp.mean(jnp.square(error))
    total = loss.mse * jnp.mean(worth * jnp.square(error))
    if loss.l1:
        total = total + loss.l1 * jnp.mean(worth * jnp.abs(error))
    metrics = {"mse": mse, "psnr": -10.0 * jnp.log10(mse / 4.0)}
    if loss.lpips:
        if perceptual is None:
            raise ValueError("a loss with lpips > 0 needs a perceptual distance")
        distance = perceptual(original, decoded)
        metrics["lpips"] = jnp.mean(distance)
        total = total + loss.lpips * jnp.mean(jnp.mean(weight, axis=(1, 2, 3)) * distance)
    return total, metrics


def autoencoder_loss(
    networks: Networks,
    params: Params,
    stats: Stats,
    batch: Batch,
    key: jax.Array,
    loss: LossConfig,
    perceptual: Perceptual | None = None,
) -> tuple[jax.Array, tuple[Metrics, Stats]]:
    """Stage "autoencoder": reconstruction from a sample of the posterior, and its KL divergence."""
    image = to_signed(batch["image"])
    mean, log_variance = networks.encode(params, image)
    noise = jax.random.normal(key, mean.shape)
    decoded = networks.decode(params, mean + jnp.exp(0.5 * log_variance) * noise)
    total, metrics = pixel_losses(image, decoded, jnp.ones_like(mean[..., :1]), loss, perceptual)
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    metrics["kl"] = jnp.mean(jnp.sum(divergence, axis=-1)) / CELL_PX**2
    total = total + loss.kl * metrics["kl"]
    return total, (metrics, latents.update(stats, mean, None, batch["step"]))


def codec_loss(
    networks: Networks,
    params: Params,
    stats: Stats,
    batch: Batch,
    key: jax.Array,
    loss: LossConfig,
    perceptual: Perceptual | None = None,
    *,
    joint: bool,
) -> tuple[jax.Array, tuple[Metrics, Stats]]:
    """Stages "codec" and "joint".

    Args:
      networks, params, stats: the model.
      batch: image uint8 [B, H, W, 3], level_map [B, H/8, W/8], nodes [B, 16], step [].
      key: noise of this step.
      loss: weights.
      perceptual: LPIPS or the like.
      joint: pixels count, through a decode in one step; otherwise the autoencoder is frozen and
        only rate and the denoiser's error do.

    Returns:
      The loss in bits per pixel, and (metrics, statistics after this batch).
    """
    key_y, key_z = jax.random.split(key)
    table = node_values()
    image = to_signed(batch["image"])
    levels = LevelInputs.of(batch["level_map"], batch["nodes"])
    alpha_bar = table["alpha_bar"][levels.node_map][..., None]
    delta = table["delta"][levels.node_map][..., None]
    log2_scale = table["log2_scale"][levels.node_map][..., None]
    pixels = image.shape[0] * image.shape[1] * image.shape[2]

    raw, _ = networks.encode(params, image)
    if not joint:
        raw = jax.lax.stop_gradient(raw)
    y = latents.scale_in_training(raw, stats) if joint else latents.scale(raw, stats)

    # z: noise in the rate, straight-through rounding in the synthesis.
    z = networks.hyper_encode(params, y, levels)
    bits_z = networks.hyper_bits(params, z + uniform_noise(key_z, z.shape), levels)
    mean, log2_sigma, ranges = networks.hyper_decode(params, round_straight_through(z), levels)

    # y: dithered quantisation is uniform noise, for the rate as for the picture.
    e = uniform_noise(key_y, y.shape)
    spread = clip_straight_through(
        log2_sigma + log2_scale, math.log2(SCALE_MIN), math.log2(SCALE_MAX)
    )
    bits_y = gaussian_bits(jnp.exp2(log2_scale) * (y - mean) + e, jnp.exp2(spread))
    noisy = diffuse(y, e, alpha_bar, delta)

    t = table["t"][levels.nodes]
    prior = jnp.concatenate([mean, spread - log2_scale], axis=-1)
    output = networks.denoise(params, noisy, t, levels.level_map, prior)
    signal, noise = jnp.sqrt(alpha_bar), jnp.sqrt(1.0 - alpha_bar)
    clean, _ = clean_and_noise(noisy, output, signal, noise, networks.config.unet.prediction)

    # The error of x0 over the noise's deviation is the error of v, whatever the network predicts.
    latent_error = jnp.mean(jnp.square((clean - jax.lax.stop_gradient(y)) / noise))
    bpp_y, bpp_z = jnp.sum(bits_y) / pixels, jnp.sum(bits_z) / pixels
    balance = (1.0 - alpha_bar) ** loss.balance
    rate = jnp.sum(bits_y * balance) + jnp.sum(bits_z * _pool(balance, HYPER_STRIDE))
    total = loss.rate * rate / pixels + loss.latent * latent_error
    metrics = {"bpp": bpp_y + bpp_z, "bpp_y": bpp_y, "bpp_z": bpp_z, "latent": latent_error}
    if joint:
        decoded = networks.decode(params, latents.unscale(clean, stats))
        weight = balance * (1.0 - alpha_bar) ** -loss.power
        distortion, pixel_metrics = pixel_losses(image, decoded, weight, loss, perceptual)
        total = total + distortion
        metrics |= pixel_metrics
    return total, (metrics, latents.update(stats, raw if joint else None, ranges, batch["step"]))


def _pool(x: jax.Array, stride: int) -> jax.Array:
    """Mean over stride x stride blocks of [B, h, w, C]."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // stride, stride, width // stride, stride, channels)
    return blocks.mean(axis=(2, 4))
