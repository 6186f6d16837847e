"""Data of a run: what it reads from, and the batches of each stage."""

from __future__ import annotations

import os
from typing import Any

import jax

from rcodec_jax.config.train import Config
from rcodec_jax.data import ImageFolder, make_dataset
from rcodec_jax.regions import MapSampler


def open_source(config: Config, data: str | os.PathLike[str]) -> ImageFolder:
    """The pictures of a run.

    Raises:
      UsageError: there are none.
    """
    return ImageFolder(
        data,
        min_side=16,
        cache_bytes=config.train.data.cache_mb * 10**6,
        exclude=config.train.data.exclude,
    )


def stage_batches(config: Config, index: int, source: ImageFolder) -> Any:
    """This process's batches of a stage, an endless iterator with `get_state` and `set_state`."""
    stage = config.train.stages[index]
    return make_dataset(
        source,
        crop_px=stage.crop_px,
        batch_size=stage.batch_size,
        seed=config.train.seed + 1000 * index,
        sample_maps=MapSampler(stage.node_range or config.model.node_range),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
