"""A model's tables and centroids of the latent, fitted to what its encoder writes on pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.quantise import quantise
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import PRIOR_BITS, IntegerPart, dither_indices, dither_values
from rcodec_jax.entropy.distributions.fitting import SKIP, Counts, Sums, fit, fit_centroids
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.levelmap import cell_shape, uniform_level_map

ROUNDS = 4
"""Other tables make other integers worth their bits; by the fourth round little changes."""

RATES = 2
"""Timesteps at which each picture is coded in a round."""


def fit_tables(
    bundle: Bundle,
    pictures: Sequence[np.ndarray],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[IntegerPart, list[float]]:
    """Codes pictures at random rates, counts what is written, and makes tables of it, in rounds.

    Args:
      bundle: the model.
      pictures: uint8 [H, W, 3] each.
      rounds: how often.
      seed: of the timesteps.
      progress: called before each picture of each round.

    Returns:
      The integer part with the last round's tables, and the mean bits per pixel that each round's
      files would have had, with the tables that it began with.
    """
    programs, part = Programs(bundle), bundle.integers
    table = node_table(bundle.config.noise_schedule)
    latents = [programs.latent(picture) for picture in pictures]
    low, high = bundle.config.node_range
    total, rates = rounds * len(pictures), []
    for number in range(rounds):
        rng, counts, sums, bpp = np.random.default_rng(seed), Counts(), Sums(), []
        model = dataclasses.replace(bundle, integers=part)
        for i, (picture, y) in enumerate(zip(pictures, latents, strict=True)):
            progress(number * len(pictures) + i, total, f"round {number + 1}")
            height, width = cell_shape(*picture.shape[:2])
            dither = dither_indices(height, width, part.latent_channels)
            for node in rng.integers(low, high + 1, RATES).tolist():
                levels = uniform_level_map(height, width, node=node)
                s = quantise(model, programs, y, levels)
                index = part.sigma_index(s.prior, levels)
                counts.add(index, dither, s.j)
                scale = np.exp2(table.log2_scale[node])
                mean = s.prior.mean / 2.0**PRIOR_BITS
                v = scale * (y[:height, :width] - mean)
                sums.add(index, s.j - dither_values(dither), v)
                bpp.append(8 * s.payload_bytes / (picture.shape[0] * picture.shape[1]))
        rates.append(float(np.mean(bpp)))
        centroids = None if part.centroids is None else fit_centroids(sums, part.centroids)
        part = dataclasses.replace(
            part, gaussian=fit(counts), centroids=centroids, skip=SKIP, _stored_digest=None
        )
    progress(total, total, "done")
    return part, rates
