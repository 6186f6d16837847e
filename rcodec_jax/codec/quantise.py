"""Latent -> the integers of a file: dithered quantisation, and which integers are not worth it."""

from __future__ import annotations

import dataclasses

import numpy as np

from rcodec_jax.codec.inference import Programs
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import PRIOR_BITS, Prior, dither_indices, dither_values, encode_level_map
from rcodec_jax.entropy.bands import band_rows, in_bands
from rcodec_jax.entropy.coder.tables import check_range
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA, rdoq
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.regions.levelmap import LevelMap

_CODER_BYTES = 1  # what the range coder adds to the ideal size, about


@dataclasses.dataclass(frozen=True, eq=False)
class Quantised:
    """What a picture becomes at one level map.

    Attributes:
      levels: the level map.
      z: hyper-latents int32 [hz, wz, Z].
      j: latents int16 [h, w, C].
      prior: what z, the levels and the latent's first half say of the latent.
      bits_z: ideal code length of each hyper-latent, float64 [hz, wz, Z].
      bits_y: of each cell's latents, float64 [h, w].
      level_bytes: the coded level map.
    """

    levels: LevelMap
    z: np.ndarray
    j: np.ndarray
    prior: Prior
    bits_z: np.ndarray
    bits_y: np.ndarray
    level_bytes: bytes

    @property
    def payload_bytes(self) -> float:
        """About the size of the coded payload."""
        return float(self.bits_z.sum() + self.bits_y.sum()) / 8 + _CODER_BYTES


def quantise(
    bundle: Bundle,
    programs: Programs,
    y: np.ndarray,
    levels: LevelMap,
    *,
    rdoq_lambda: float = RDOQ_LAMBDA,
    z: np.ndarray | None = None,
) -> Quantised:
    """Quantises a latent.

    Args:
      bundle, programs: the model.
      y: latent of a bucket [h', w', C].
      levels: level map [h, w] of the picture.
      rdoq_lambda: see `rdoq`; infinity keeps every integer as the dithered quantiser gives it.
      z: hyper-latents int32 [hz, wz, Z]; None for those that the model's analysis gives.
    """
    part = bundle.integers
    height, width = levels.level_map.shape
    z = programs.hyper(y, levels) if z is None else z
    prior = part.predict(z, levels)
    dither = dither_indices(height, width, part.latent_channels)
    j = np.zeros(dither.shape, np.int16)
    bits_y = np.zeros((height, width))
    table = node_table(bundle.config.noise_schedule)
    own_levels = part.check_levels(levels)
    node_scale = np.exp2(table.log2_scale)[own_levels.nodes]
    for number, half in enumerate(part.halves(height, width)):
        if number:
            prior = part.refine(prior, j, levels)

        def band(top: int, bottom: int, half: np.ndarray = half, prior: Prior = prior) -> None:
            rows, own = slice(top, bottom), half[top:bottom]
            here = Prior(prior.mean[rows], prior.log2_sigma[rows])
            scale = np.broadcast_to(node_scale[levels.level_map[rows]][..., None], own.shape)[own]
            index = part.sigma_index(here, own_levels.rows(rows))[own]
            g = dither[rows][own]
            v = scale * (y[rows, :width][own] - here.mean[own] / 2.0**PRIOR_BITS)
            k = np.floor(v + dither_values(g) + 0.5).astype(np.int32)
            bits = part.gaussian.bits(index, g, k)
            if np.isfinite(rdoq_lambda):
                sigma = scale * np.exp2(here.log2_sigma[own] / 2.0**PRIOR_BITS)
                sigma = np.clip(sigma, SCALE_MIN, SCALE_MAX)
                k, bits = rdoq(
                    k, v, sigma, bits, part.gaussian, index, g,
                    rdoq_lambda=rdoq_lambda, centroids=part.centroids,
                )  # fmt: skip
            coded = part.coded(index, g)
            k, bits = np.where(coded, k, 0), np.where(coded, bits, 0.0)
            j[rows][own] = check_range(k)
            spent = np.zeros(own.shape)
            spent[own] = bits
            bits_y[rows] += spent.sum(-1)

        in_bands(band, height, band_rows(dither[0].size))
    bits_z = part.hyper_bits(z, levels)
    level_bytes = encode_level_map(levels.level_map, levels.level_count)
    return Quantised(levels, z, j, prior, bits_z, bits_y, level_bytes)
