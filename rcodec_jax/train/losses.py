"""Losses of the three stages; pure functions of parameters, statistics, batch and key.

The unit is bits per pixel.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp

from rcodec_jax.codec.networks import LevelInputs, Networks, Params
from rcodec_jax.config.train import LossConfig
from rcodec_jax.levels import CELL_PX
from rcodec_jax.nn.hyperprior import HYPER_STRIDE
from rcodec_jax.ops.spatial import upsample_nearest
from rcodec_jax.train import latents
from rcodec_jax.train.forward import code
from rcodec_jax.train.state import Stats

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
    perceptual_weight: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
    """Weighted distortion.

    Args:
      original, decoded: [B, H, W, 3] in -1..1.
      weight: worth of each cell [B, H/8, W/8, 1].
      loss: weights of the terms.
      perceptual: needed if `loss.lpips` is not 0.
      perceptual_weight: worth of each cell to it, averaged over the picture; None: as `weight`.
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
        worth = weight if perceptual_weight is None else perceptual_weight
        total = total + loss.lpips * jnp.mean(jnp.mean(worth, axis=(1, 2, 3)) * distance)
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
    image = to_signed(batch["image"])
    levels = LevelInputs.of(batch["level_map"], batch["nodes"])
    pixels = image.shape[0] * image.shape[1] * image.shape[2]
    raw, _ = networks.encode(params, image)
    if not joint:
        raw = jax.lax.stop_gradient(raw)
    y = latents.scale_in_training(raw, stats) if joint else latents.scale(raw, stats)
    clean, bits_y, bits_z, alpha_bar, ranges = code(networks, params, y, levels, key=key)

    # The error of x0 over the noise's deviation is the error of v, whatever the network predicts.
    latent_error = jnp.mean(jnp.square(clean - jax.lax.stop_gradient(y)) / (1.0 - alpha_bar))
    bpp_y, bpp_z = jnp.sum(bits_y) / pixels, jnp.sum(bits_z) / pixels
    snr = alpha_bar / (1.0 - alpha_bar)
    balance = snr**-loss.balance
    rate = jnp.sum(bits_y * balance) + jnp.sum(bits_z * _pool(balance, HYPER_STRIDE))
    total = loss.rate * rate / pixels + loss.latent * latent_error
    metrics = {"bpp": bpp_y + bpp_z, "bpp_y": bpp_y, "bpp_z": bpp_z, "latent": latent_error}
    if joint:
        decoded = networks.decode(params, latents.unscale(clean, stats))
        weights = balance * snr**loss.power, balance * snr**loss.lpips_power
        distortion, pixel_metrics = pixel_losses(
            image, decoded, weights[0], loss, perceptual, weights[1]
        )
        total = total + distortion
        metrics |= pixel_metrics
    return total, (metrics, latents.update(stats, raw if joint else None, ranges, batch["step"]))


def _pool(x: jax.Array, stride: int) -> jax.Array:
    """Mean over stride x stride blocks of [B, h, w, C]."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // stride, stride, width // stride, stride, channels)
    return blocks.mean(axis=(2, 4))
