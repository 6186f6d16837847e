"""Losses of the three stages; pure functions of parameters, statistics, batch and key.

The unit is bits per pixel.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.config.train import LossConfig, StageConfig
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE
from rcodec_jax.model.networks import LevelInputs, Networks, Params
from rcodec_jax.model.relaxed import Coded
from rcodec_jax.model.rounding import dither_of, values_of
from rcodec_jax.model.structure import structural_distance
from rcodec_jax.ops.pixels import to_signed
from rcodec_jax.ops.spatial import upsample_nearest
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.descended import descended
from rcodec_jax.train.step.forward import Noise, code_latent
from rcodec_jax.train.step.statistics import Observed, Stats, observe

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

LATTICE_PX = 2 * CELL_PX
"""Period of what `repeated_error` finds; crops are multiples of it."""

_PERIODS = 24


class Perceptual(Protocol):
    """A perceptual distance: two [B, H, W, 3] in -1..1 -> [B]."""

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array: ...


class Seen(NamedTuple):
    """What a loss saw on its way; who has no use for it lets the compiler drop it.

    Attributes:
      metrics: scalars by name.
      observed: what statistics need of the batch.
      raw: the encoder's output [B, h, w, C].
      coded: what became of it; None in stage "autoencoder".
      decoded: pictures [B, H, W, 3] in -1..1; None where the loss decodes none, or a sample.
    """

    metrics: Metrics
    observed: Observed
    raw: jax.Array
    coded: Coded | None = None
    decoded: jax.Array | None = None


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
    mse, pixels = jnp.mean(jnp.square(error)), worth.size
    total = loss.mse * jnp.mean(worth * jnp.square(error))
    if loss.l1:
        total = total + loss.l1 * jnp.mean(worth * jnp.abs(error))
    if loss.coarse:
        blocks = mean_pool(error, CELL_PX)
        fine = jnp.mean(weight * jnp.square(blocks))
        coarse = jnp.mean(mean_pool(weight, 2) * jnp.square(mean_pool(blocks, 2)))
        total = total + loss.coarse * (fine + coarse)
    metrics = {"mse": mse, "psnr": -10.0 * jnp.log10(mse / 4.0)}
    worth = weight if perceptual_weight is None else perceptual_weight
    if loss.lattice:
        repeated = repeated_error(error)
        metrics["lattice"] = jnp.mean(repeated)
        blocks = mean_pool(worth, worth.shape[1] // repeated.shape[1])
        total = total + loss.lattice * jnp.mean(blocks * repeated)
    if loss.structure:
        worth_px = upsample_nearest(worth, CELL_PX)
        distance = structural_distance(original, decoded, worth_px, texture=loss.texture)
        metrics["structure"] = distance / pixels
        total = total + loss.structure * distance / pixels
    if loss.lpips:
        if perceptual is None:
            raise ValueError("a loss with lpips > 0 needs a perceptual distance")
        distance = perceptual(original, decoded)
        metrics["lpips"] = jnp.mean(distance)
        total = total + loss.lpips * jnp.mean(jnp.mean(worth, axis=(1, 2, 3)) * distance)
    return total, metrics


def autoencoder_loss(
    networks: Networks,
    params: Params,
    stats: Stats,
    batch: Batch,
    loss: LossConfig,
    perceptual: Perceptual | None = None,
) -> tuple[jax.Array, Seen]:
    """Stage "autoencoder": reconstruction from a sample of the posterior, and its KL divergence."""
    del stats
    image = to_signed(batch["image"])
    mean, log_variance = networks.encode(params, image)
    sample = mean + jnp.exp(0.5 * log_variance) * batch["noise"]
    decoded = networks.decode(params, sample)
    total, metrics = pixel_losses(image, decoded, jnp.ones_like(mean[..., :1]), loss, perceptual)
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    metrics["kl"] = jnp.mean(jnp.sum(divergence, axis=-1)) / CELL_PX**2
    total = total + loss.kl * metrics["kl"]
    return total, Seen(metrics, observe(mean, None), mean)


def codec_loss(
    networks: Networks,
    params: Params,
    stats: Stats,
    batch: Batch,
    loss: LossConfig,
    perceptual: Perceptual | None = None,
    *,
    joint: bool,
    refine: int = 0,
) -> tuple[jax.Array, Seen]:
    """Stages "codec" and "joint".

    Args:
      networks, params, stats: the model.
      batch: image uint8 [B, H, W, 3], or (not `joint`) latent [B, H/8, W/8, C] as the encoder
        gives it; level_map [B, H/8, W/8], nodes [B, 16]; the noise of `draw_noise`.
      loss: weights.
      perceptual: LPIPS or the like.
      joint: pixels count, through a decode in one step; otherwise the autoencoder is frozen and
        only rate and the denoiser's error do.
      refine: as `StageConfig.refine`.

    Returns:
      The loss in bits per pixel, and what was seen.
    """
    levels = LevelInputs.of(batch["level_map"], batch["nodes"])
    pixels = levels.node_map.size * CELL_PX**2
    if "latent" in batch:
        raw = batch["latent"].astype(jnp.float32)
    else:
        image = to_signed(batch["image"])
        raw, _ = networks.encode(params, image)
    if not joint:
        raw = jax.lax.stop_gradient(raw)
    y = statistics.scale_in_training(raw, stats) if joint else statistics.scale(raw, stats)
    noise = Noise(batch["noise_y"], batch["noise_z"])
    if refine:
        dither = values_of(dither_of(noise.y))
        unscale = functools.partial(statistics.unscale, stats=stats)
        y = descended(networks, params, y, image, levels, dither, unscale, refine)
    coded = code_latent(networks, params, y, levels, noise=noise, trim=loss.trim)
    clean, bits_y, bits_z, hints, alpha_bar, ranges = coded

    # The error of x0 over the noise's deviation is the error of v, whatever the network predicts.
    errors = jnp.square(clean - jax.lax.stop_gradient(y)) / (1.0 - alpha_bar)
    latent_error = jnp.mean(errors)
    bpp_y, bpp_z = jnp.sum(bits_y) / pixels, jnp.sum(bits_z) / pixels
    snr = alpha_bar / (1.0 - alpha_bar)
    balance = snr**-loss.balance
    rate = jnp.sum(bits_y * balance) + jnp.sum(bits_z * mean_pool(balance, HYPER_STRIDE))
    weighted = (
        jnp.mean(min_snr_weight(snr, loss.min_snr) * errors) if loss.min_snr else latent_error
    )
    total = loss.rate * rate / pixels + loss.latent * weighted
    metrics = {"bpp": bpp_y + bpp_z, "bpp_y": bpp_y, "bpp_z": bpp_z, "latent": latent_error}
    decoded = None
    if joint:
        decoded = networks.decode(params, statistics.unscale(clean, stats), hints)
        weights = balance * snr**loss.power, balance * snr**loss.lpips_power
        distortion, pixel_metrics = pixel_losses(
            image, decoded, weights[0], loss, perceptual, weights[1]
        )
        total = total + distortion
        metrics |= pixel_metrics
    return total, Seen(metrics, observe(raw if joint else None, ranges), raw, coded, decoded)


def min_snr_weight(snr: jax.Array, gamma: float) -> jax.Array:
    """Min-SNR weight of an error of v: min(snr, gamma) / (snr + 1).

    Hang et al. (ICCV 2023) weight the error of x0 with min(snr, gamma); that is the error of
    epsilon times min(snr, gamma) / snr, and the error of v, which here is the error of x0 over the
    noise's variance, times the above. Cells of much signal, where the x0 error is small and its
    gradient in v would be large, no longer outweigh the others.

    Args:
      snr: abar / (1 - abar) by cell.
      gamma: the bound; 5 in the paper.
    """
    return jnp.minimum(snr, gamma) / (snr + 1.0)


def draw_noise(
    stage: StageConfig, key: jax.Array, level_map: jax.Array, config: ModelConfig
) -> dict[str, jax.Array]:
    """The randomness of a step for its whole batch, as further rows of it.

    Drawn before the batch is divided over micro-batches, so that it does not depend on how.

    Args:
      stage: whose it is.
      key: of the step.
      level_map: integers [B, h, w].
      config: the model.

    Returns:
      "noise" [B, h, w, C] for stage "autoencoder"; "noise_y" and "noise_z", see `Noise`, for the
      others.
    """
    shape = (*level_map.shape, config.latent_channels)
    if stage.kind == "autoencoder":
        return {"noise": jax.random.normal(key, shape)}
    noise = Noise.draw(key, shape, config.hyper.hyper_channels, stage.noise)
    return {"noise_y": noise.y, "noise_z": noise.z}


def repeated_error(error: jax.Array) -> jax.Array:
    """The part of an error that repeats every 16 pixels, squared.

    A decoder sees nothing but noise where detail is too faint for its bits, and may answer with the
    same pattern everywhere. It cannot repeat less often than the cells of the coarsest grid that
    the denoiser has, 2 x 2 latent cells; a term for less drives it there.

    Args:
      error: [B, H, W, C], H and W multiples of 16.

    Returns:
      Mean over each block of n x n periods of the squared mean of its periods, less its own mean,
      [B, H/16n, W/16n, 1]; n is 24 or, where such blocks do not fill the picture, the largest of
      its divisors with which they do. Errors of other kinds leave 1/n^2 of their square.
    """
    batch, height, width, channels = error.shape
    n = math.gcd(height // LATTICE_PX, width // LATTICE_PX, _PERIODS)
    rows, columns = height // (n * LATTICE_PX), width // (n * LATTICE_PX)
    shape = (batch, rows, n, LATTICE_PX, columns, n, LATTICE_PX, channels)
    period = error.reshape(shape).mean(axis=(2, 5))
    pattern = period - period.mean(axis=(2, 4), keepdims=True)
    return jnp.mean(jnp.square(pattern), axis=(2, 4, 5))[..., None]


def mean_pool(x: jax.Array, stride: int) -> jax.Array:
    """Mean over stride x stride blocks of [B, h, w, C]."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // stride, stride, width // stride, stride, channels)
    return blocks.mean(axis=(2, 4))
