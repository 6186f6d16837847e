"""What a trained variant costs and gives back at fixed timesteps, by the rate of theory.

The code lengths are those of the integers that the quantiser makes, under the float entropy model;
files come within bytes of them. No file is written, so arithmetic that the format lacks can be
measured, too.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.config.ablation import Ablation
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import dither_indices, dither_values, encode_level_map
from rcodec_jax.levels import CELL_PX
from rcodec_jax.metrics.decibels import psnr_db
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.relaxed import Dithered, code_latent
from rcodec_jax.model.trained import load_trained
from rcodec_jax.ops.densities import gaussian_bits
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.regions import LevelMap, build_level_map, uniform_level_map
from rcodec_jax.train.input.heldout import ellipse

POINTS = 5
"""Timesteps of each curve."""

UNIFORM, REGION = "uniform", "region"
_SEED = 0xAB1A


@dataclasses.dataclass(frozen=True)
class Found:
    """Of one variant and seed: a row for each setting, a column for each picture.

    Attributes:
      settings: such as "region 2": the map, and the timestep's number, the finest first.
      bpp: bits per pixel, the map's included.
      quality_db: PSNR; with a region the mean of those inside and outside.
    """

    settings: list[str]
    bpp: list[list[float]]
    quality_db: list[list[float]]


class Rounded(NamedTuple):
    """The quantiser of files: j = floor(v + g + 1/2), without trimming.

    Attributes:
      g: the dither, broadcastable to [B, h, w, C]; 0 rounds plainly.
    """

    g: jax.Array

    def error(self, v: jax.Array, sigma: jax.Array) -> jax.Array:
        """What is given back is j - g."""
        del sigma
        return jnp.floor(v + self.g + 0.5) - self.g - v

    def bits(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Code lengths of j under a Gaussian."""
        return gaussian_bits(v + e, sigma)

    def estimate(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Wiener's."""
        return Dithered(self.g).estimate(v, e, sigma)


def measure(workdir: str | Path, ablation: Ablation, pictures: np.ndarray) -> Found:
    """Measures the run in a folder, coding as an ablation says.

    Args:
      pictures: uint8 [N, S, S, 3], S a multiple of 32.
    """
    trained = load_trained(workdir)
    config, cells = trained.config, pictures.shape[1] // CELL_PX
    if not ablation.see_map:
        unet = dataclasses.replace(config.unet, see_map=False)
        config = dataclasses.replace(config, unet=unet)
    g = dither_values(dither_indices(cells, cells, config.latent_channels))
    dither = jnp.asarray(g * ablation.dither, jnp.float32)[None]
    params = jax.tree.map(jnp.asarray, trained.params)
    program = functools.partial(_program(config), params, trained.shift, trained.scale, dither)
    found = Found([], [], [])
    for setting, maps, regions in settings(trained.config.node_range, *pictures.shape[:2]):
        bpp, quality = [], []
        for picture, levels, region in zip(pictures, maps, regions, strict=True):
            bits, decoded = program(
                picture[None], levels.level_map[None], levels.padded_nodes[None]
            )
            side = 8 * len(encode_level_map(levels.level_map, levels.level_count))
            bpp.append((float(bits) + side) / picture[..., 0].size)
            parts = [region, ~region] if levels.level_count > 1 else [None]
            pair = picture, np.asarray(decoded[0])
            quality.append(float(np.mean([psnr_db(*pair, part) for part in parts])))
        found.settings.append(setting)
        found.bpp.append(bpp)
        found.quality_db.append(quality)
    return found


def settings(
    node_range: tuple[int, int], count: int, side_px: int
) -> list[tuple[str, list[LevelMap], list[np.ndarray]]]:
    """Maps of `count` pictures by setting, and where their regions are, bool [S, S].

    Outside of its region a map is coarser by half of the model's range of nodes.
    """
    low, high = node_range
    span, cells = (high - low) // 2, side_px // CELL_PX
    regions = [ellipse(np.random.default_rng([_SEED, n]), cells) for n in range(count)]
    wide = [region.repeat(CELL_PX, 0).repeat(CELL_PX, 1) for region in regions]
    found = []
    for number, node in enumerate(np.linspace(low, high, POINTS).astype(int)):
        levels = uniform_level_map(cells, cells, node=int(node))
        found.append((f"{UNIFORM} {number}", [levels] * count, wide))
    for number, node in enumerate(np.linspace(low, high - span, POINTS).astype(int)):
        maps = [
            build_level_map(region.astype(np.float32), base=int(node), span=span)
            for region in regions
        ]
        found.append((f"{REGION} {number}", maps, wide))
    return found


@functools.lru_cache(maxsize=8)  # one is traced for all variants of a shape, in seconds
def _program(config: ModelConfig) -> Any:
    """Bits and pixels of a picture, jitted; all that training finds is an argument."""
    networks = Networks(config)

    @jax.jit
    def program(
        params: Any,
        shift: jax.Array,
        scale: jax.Array,
        dither: jax.Array,
        image: jax.Array,
        level_map: jax.Array,
        nodes: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        levels = LevelInputs.of(level_map, nodes)
        raw, _ = networks.encode(params, to_signed(image))
        y = (raw - shift[None, None, None]) * scale[None, None, None]
        z = jnp.round(networks.hyper_encode(params, y, levels))
        coded = code_latent(networks, params, y, z, levels, quantiser=Rounded(dither))
        raw = coded.clean / scale[None, None, None] + shift[None, None, None]
        decoded = networks.decode(params, raw, coded.hints)
        return jnp.sum(coded.bits_y) + jnp.sum(coded.bits_z), to_bytes(decoded)

    return program
