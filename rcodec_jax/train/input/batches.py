"""Data of a run: what it reads from, and the batches of each stage."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rcodec_jax import scale
from rcodec_jax.config.train import Config, SourceConfig, StageConfig
from rcodec_jax.data import Mixture, Source, make_dataset, select
from rcodec_jax.data import open_source as open_path
from rcodec_jax.data.sources.made import MadePictures
from rcodec_jax.errors import UsageError
from rcodec_jax.regions import MapSampler, cell_shape, pool_importance
from rcodec_jax.regions.sources import check_named, importance_by_name
from rcodec_jax.train.step.losses import Batch

MIN_SIDE_PX = 16
"""Pictures with a shorter side are left out."""


def open_sources(
    config: Config, data: str | os.PathLike[str] | None = None
) -> list[tuple[Source, float]]:
    """The sources of a run and their weights.

    Args:
      config: the run; it may name sources.
      data: the only source instead, a path or name as in `SourceConfig`, beside made pictures.

    Raises:
      UsageError: none is given, or one of them holds nothing usable.
    """
    settings = config.train.data
    sources = settings.sources if data is None else (SourceConfig(os.fspath(data)),)
    if not sources:
        raise UsageError("expected --data or train.data.sources, got neither")
    for spec in settings.importance:
        check_named(spec)
    opened = [
        (
            open_path(
                source.path,
                split=source.split,
                min_side=MIN_SIDE_PX,
                cache_bytes=settings.cache_mb * 10**6 // len(sources),
                exclude=settings.exclude,
                max_damaged=settings.max_damaged,
            ),
            source.weight,
        )
        for source in sources
    ]
    if settings.made:
        others = sum(weight for source, weight in opened if source.kind == "images")
        opened.append((MadePictures(), settings.made / (1 - settings.made) * others))
    return opened


def stage_mixture(sources: list[tuple[Source, float]], stage: StageConfig) -> Mixture:
    """The sources that a stage reads: cached latents or pictures, as it says.

    Raises:
      UsageError: there are none of that kind.
    """
    return select(sources, "latents" if stage.latents else "images")


def stage_batches(config: Config, index: int, mixture: Mixture, mesh: Mesh) -> Any:
    """This process's batches of a stage, an endless iterator with `get_state` and `set_state`."""
    stage, data = config.train.stages[index], config.train.data
    maps = MapSampler(stage.node_range or config.model.node_range, data.maps)
    return make_dataset(
        mixture,
        crop_px=stage.crop_px,
        batch_size=stage.batch_size,
        seed=(config.train.seed + 1000 * index) % 2**32,
        sample_maps=maps,
        grey=data.grey,
        redraw_maps=NamedMaps(maps, data.importance, data.importance_share)
        if data.importance
        else None,
        rows=scale.local_rows(stage.batch_size, mesh),
        worker_count=data.workers,
    )


@dataclasses.dataclass(frozen=True)
class NamedMaps:
    """Level maps of what named sources find in the pictures themselves, for a share of them.

    Attributes:
      maps: of the stage.
      names: of sources, see `regions.sources`; one of them at a time.
      share: of the pictures, 0..1.
    """

    maps: MapSampler
    names: tuple[str, ...]
    share: float

    def __call__(
        self, rng: np.random.Generator, pixels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        if rng.random() >= self.share:
            return None
        name = self.names[int(rng.integers(len(self.names)))]
        cells = cell_shape(*pixels.shape[:2])
        importance = pool_importance(importance_by_name([name], pixels), *cells)
        drawn = self.maps.favouring(rng, importance)
        return drawn.level_map, drawn.padded_nodes


class HostBatches:
    """The loader's batches of a stage, placed on the devices."""

    def __init__(self, config: Config, index: int, mixture: Mixture, mesh: Mesh) -> None:
        self._batches, self._mesh = stage_batches(config, index, mixture, mesh), mesh

    def __next__(self) -> Batch:
        batch: Batch = scale.global_batch(next(self._batches), self._mesh)
        return batch

    def get_state(self) -> dict[str, int]:
        """The position, as plain data."""
        state: dict[str, int] = self._batches.get_state()
        return state

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on from a position that `get_state` gave."""
        self._batches.set_state(state)

    def close(self) -> None:
        """Ends what reads ahead."""
        self._batches.close()


def position(data_state: dict[str, Any], batch_size: int) -> dict[str, int]:
    """Where the loader goes on: at the same row, if batches have another size than before.

    Raises:
      UsageError: that row is not the first of a batch.
    """
    position: dict[str, int] = data_state["iterator"]
    before = data_state.get("batch_size", batch_size)
    batches, rest = divmod(position["next_index"] * before, batch_size)
    if rest:
        raise UsageError(
            f"expected a batch_size that divides the {position['next_index'] * before} rows seen "
            f"in batches of {before}, got {batch_size}"
        )
    return position | {"next_index": batches}
