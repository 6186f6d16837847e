"""What is held out of a run to measure it on: pictures, and the maps they are measured with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcodec_jax.config.train import Config, ValidationConfig
from rcodec_jax.data import Source, open_source
from rcodec_jax.data.loading.transforms import pad_to
from rcodec_jax.data.sources.made import MadePictures
from rcodec_jax.data.sources.parts import hold_out
from rcodec_jax.data.sources.sources import ImageFolder, PictureSource
from rcodec_jax.errors import UsageError
from rcodec_jax.regions import LevelMap, build_level_map, uniform_level_map
from rcodec_jax.train.input.batches import MIN_SIDE_PX

RATES = (0.2, 0.5, 0.8)
"""Uniform maps, as shares of the model's range of nodes: fine, middle, coarse."""

REGION = (0.35, 0.75)
"""The same of the map with a region: inside of it, and outside."""

_SEED = 0x7E57


class Map(NamedTuple):
    """A level map for each picture.

    Attributes:
      name: such as "node 256" or "region".
      level_maps: of the pictures.
      regions: bool [N, h, w] where the map favours some cells; None for a uniform one.
    """

    name: str
    level_maps: list[LevelMap]
    regions: np.ndarray | None = None


def held_out(
    config: Config, sources: list[tuple[Source, float]]
) -> tuple[list[tuple[Source, float]], list[PictureSource]]:
    """The sources to train on with their weights, and those of the pictures that are held out.

    A share is of every source of pictures; of made ones only where there are no others.

    Raises:
      UsageError: `train.validation` names no pictures, or those that are trained on.
    """
    wanted = config.train.validation
    if wanted.data is not None:
        most = config.train.data.max_damaged
        source = open_source(wanted.data, min_side=MIN_SIDE_PX, max_damaged=most)
        if not isinstance(source, PictureSource):
            raise UsageError(f"train.validation.data: expected pictures, got {source!r}")
        trained = [one for one, _ in sources]
        if source.digest in {one.digest for one in trained} or _paths([source]) & _paths(trained):
            raise UsageError(
                f"train.validation.data: expected pictures that are not trained on, got {source!r} "
                "(train.data.exclude leaves folders out)"
            )
        return sources, [source]
    if not wanted.share:
        return sources, []
    pictures = [source for source, _ in sources if isinstance(source, PictureSource)]
    photos = [source for source in pictures if not isinstance(source, MadePictures)]
    divided = {id(source): hold_out(source, wanted.share) for source in photos or pictures}
    train = [
        (divided[id(one)][0] if id(one) in divided else one, weight) for one, weight in sources
    ]
    if not divided:
        raise UsageError(
            "train.validation.share: expected a source of pictures to hold a share out, got none "
            "(train.validation.data names other pictures)"
        )
    return train, [part for _, part in divided.values()]


def _paths(sources: Sequence[Source]) -> set[Path]:
    """Files of those sources that are folders of pictures."""
    folders = [source for source in sources if isinstance(source, ImageFolder)]
    return {path.resolve() for folder in folders for path in folder.paths}


def crops(sources: Sequence[PictureSource], wanted: ValidationConfig) -> np.ndarray:
    """The middles of some pictures, evenly over all: uint8 [N, S, S, 3].

    Smaller pictures are padded by mirroring.
    """
    every = [(source, at) for source in sources for at in range(source.picture_count)]
    count = min(wanted.pictures, len(every))
    side = wanted.crop_px
    found = []
    for index in np.arange(count) * len(every) // count:
        source, at = every[index]
        pixels = pad_to(source.picture(at), side)
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        found.append(pixels[top : top + side, left : left + side])
    return np.stack(found)


def fixed_maps(node_range: tuple[int, int], count: int, cells: int) -> list[Map]:
    """The maps of `count` pictures of cells x cells: the same on every call."""
    low, high = node_range

    def node(share: float) -> int:
        return round(low + share * (high - low))

    maps = [
        Map(f"node {node(share)}", [uniform_level_map(cells, cells, node=node(share))] * count)
        for share in RATES
    ]
    inside, outside = map(node, REGION)
    regions = np.stack([ellipse(np.random.default_rng([_SEED, n]), cells) for n in range(count)])
    favoured = [
        build_level_map(region, base=inside, span=outside - inside)
        for region in regions.astype(np.float32)
    ]
    return [*maps, Map("region", favoured, regions)]


def ellipse(rng: np.random.Generator, cells: int) -> np.ndarray:
    """An ellipse that covers a fifth of a square, or a little less: bool [cells, cells]."""
    centre = rng.uniform(0.3, 0.7, 2)
    half = 0.25 * np.exp(rng.uniform(-0.3, 0.3) * np.array([1, -1]))
    at = (np.arange(cells) + 0.5) / cells
    across = [((at - middle) / radius) ** 2 for middle, radius in zip(centre, half, strict=True)]
    return across[0][:, None] + across[1][None] <= 1
