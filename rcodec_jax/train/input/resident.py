"""Training data that lies decoded on the devices: batches without a host that reads and crops.

All pictures are one flat array of pixels beside their places and sizes. A batch is drawn where the
step runs, from the run's seed and the batch's number alone, so that resuming is exact to the bit;
the order is with replacement, where the loader shuffles by epoch. On accelerators several steps are
one program, which a small model needs to keep a large device busy; on CPUs a loop within a program
would leave out the fast convolutions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from rcodec_jax import scale
from rcodec_jax.config.train import Config, TrainConfig
from rcodec_jax.data import Mixture
from rcodec_jax.data.loading.transforms import LUMA, pad_to
from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX
from rcodec_jax.regions import MapSampler
from rcodec_jax.train.step.losses import Batch

STEPS_PER_CALL = 10
"""Most steps of a program on an accelerator."""

MAP_COUNT = 4096
"""Level maps that are drawn once; each batch has some of them, mirrored and transposed."""

MAX_PIXELS = 2**31 - 1
_STREAM = 0x0DA7A
"""Keeps the keys of batches apart from those of parameters and of noise."""

Held = dict[str, jax.Array]
"""pixels uint8 [P, 3] of all pictures, row by row; start, height, width int32 [N] of each; chance
float32 [N], cumulative; level_map uint8 [M, h, w] and nodes int32 [M, 16] of a stage."""


def hold_pictures(mixture: Mixture, config: Config, mesh: Mesh) -> Held:
    """Decodes every picture of a mixture once and puts all of them onto every device.

    A picture's chance is its source's weight times its share of the source's pixels, as in the
    loader. Pictures smaller than the run's largest crop are padded by mirroring.

    Args:
      mixture: pictures.
      config: the run.
      mesh: its devices.

    Returns:
      `Held` without maps.

    Raises:
      UsageError: too many damaged pictures (for others their neighbours stand in), or more pixels
        than an int32 counts.
      StorageError: a picture cannot be read.
    """
    sources = [(one, weight) for one, weight in mixture.weighted if isinstance(one, PictureSource)]
    least = max(stage.crop_px for stage in config.train.stages)
    pictures = list(_decoded([one for one, _ in sources], least))
    sizes = np.array([pixels.shape[:2] for pixels in pictures])
    areas = sizes.prod(axis=1)
    if areas.sum() > MAX_PIXELS:
        raise UsageError(
            f"data.resident: expected at most {MAX_PIXELS:,} pixels in all, got {areas.sum():,}"
        )
    chance = np.concatenate([weight * one.shares for one, weight in sources])
    cumulative = np.cumsum(chance)
    held = {
        "pixels": np.concatenate([pixels.reshape(-1, 3) for pixels in pictures]),
        "start": (np.cumsum(areas) - areas).astype(np.int32),
        "height": sizes[:, 0].astype(np.int32),
        "width": sizes[:, 1].astype(np.int32),
        "chance": (cumulative / cumulative[-1]).astype(np.float32),
    }
    placed: Held = scale.replicate(held, mesh)
    return placed


def _decoded(sources: Iterable[PictureSource], least_px: int) -> Iterator[np.ndarray]:
    """All pictures in order, uint8 [H, W, 3] with sides of at least `least_px`."""
    with ThreadPoolExecutor() as pool:
        for source in sources:
            for pixels in pool.map(source.picture, range(source.picture_count)):
                yield pad_to(pixels, least_px)


def draw(held: Held, key: jax.Array, *, batch_size: int, crop_px: int, grey: float) -> Batch:
    """A batch: random crops, mirrored half the time, some in greys, each with a level map.

    Args:
      held: pictures and maps.
      key: of the batch.
      batch_size: rows B.
      crop_px: side of the crops S.
      grey: share of the crops in greys.

    Returns:
      image uint8 [B, S, S, 3], level_map uint8 [B, S/8, S/8], nodes int32 [B, 16].
    """
    keys = jax.random.split(key, 4)
    which = jnp.searchsorted(held["chance"], jax.random.uniform(keys[0], (batch_size,)), "right")
    which = jnp.minimum(which, held["chance"].size - 1)
    place = jax.random.uniform(keys[1], (batch_size, 2))
    height, width = held["height"][which], held["width"][which]
    top = (place[:, 0] * (height - crop_px + 1)).astype(jnp.int32)
    left = (place[:, 1] * (width - crop_px + 1)).astype(jnp.int32)
    chance = jax.random.uniform(keys[2], (batch_size, 4))
    along = jnp.arange(crop_px, dtype=jnp.int32)[None]
    columns = left[:, None] + jnp.where(chance[:, :1] < 0.5, along[:, ::-1], along)
    rows = held["start"][which, None] + (top[:, None] + along) * width[:, None]
    image = held["pixels"][rows[:, :, None] + columns[:, None, :]]
    if grey:
        luma = jnp.rint(
            jnp.sum(
                image * jnp.array(LUMA, jnp.float32).reshape(1, 1, 1, 3), axis=-1, keepdims=True
            )
        )
        greys = chance[:, 1] < grey
        image = jnp.where(greys[:, None, None, None], luma.astype(jnp.uint8), image)
    map_index = jax.random.randint(keys[3], (batch_size,), 0, held["level_map"].shape[0])
    maps = held["level_map"][map_index]
    maps = jnp.where((chance[:, 2] < 0.5)[:, None, None], maps[:, ::-1], maps)
    maps = jnp.where((chance[:, 3] < 0.5)[:, None, None], maps.swapaxes(1, 2), maps)
    return {"image": image, "level_map": maps, "nodes": held["nodes"][map_index]}


class ResidentBatches:
    """Batches of a stage, drawn on the devices; otherwise as `data.loader.Batches`.

    Attributes:
      held: pictures, and the maps of this stage.

    Args:
      config: the run.
      index: of the stage.
      pictures: from `hold_pictures`.
      mesh: the run's devices.
    """

    def __init__(self, config: Config, index: int, pictures: Held, mesh: Mesh) -> None:
        stage = config.train.stages[index]
        seed = (config.train.seed + 1000 * index) % 2**32
        kinds = config.train.data.maps
        sampler = MapSampler(stage.node_range or config.model.node_range, kinds)
        rng, cells = np.random.default_rng([seed, MAP_COUNT]), stage.crop_px // CELL_PX
        drawn = [sampler(rng, cells, cells) for _ in range(MAP_COUNT)]
        maps = {
            "level_map": np.stack([d[0] for d in drawn]),
            "nodes": np.stack([d[1] for d in drawn]),
        }
        self.held: Held = pictures | scale.replicate(maps, mesh)
        self._seed, self._next = seed, 0
        self._sharding = NamedSharding(mesh, scale.BATCH_SPEC)
        self._draw = functools.partial(
            draw, batch_size=stage.batch_size, crop_px=stage.crop_px, grey=config.train.data.grey
        )
        self._jitted = jax.jit(self.at, out_shardings=self._sharding)

    def at(self, held: Held, index: jax.Array) -> Batch:
        """Batch number `index` int32 [] of the stage, split over the devices; to be traced."""
        key = jax.random.fold_in(jax.random.key(np.uint32(self._seed)), _STREAM)
        batch = self._draw(held, jax.random.fold_in(key, index))
        return jax.lax.with_sharding_constraint(batch, self._sharding)

    def batch(self, index: int) -> Batch:
        """Batch number `index` of the stage."""
        batch: Batch = self._jitted(self.held, np.int32(index))
        return batch

    def __next__(self) -> Batch:
        self._next += 1
        return self.batch(self._next - 1)

    def ahead(self, count: int) -> dict[str, Any]:
        """What a program of `count` steps draws the next batches from; see `Setup.steps`."""
        self._next += count
        return {"held": self.held, "first": np.int32(self._next - count)}

    def get_state(self) -> dict[str, int]:
        """The position, as plain data."""
        return {"next_index": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on from a position that `get_state` gave."""
        self._next = state["next_index"]

    def close(self) -> None:
        """Nothing to end."""


def steps_per_call(train: TrainConfig, done: int, end: int | None, mesh: Mesh) -> int:
    """Steps that one program makes: 1 on CPUs, else a divisor of every interval of the run.

    Args:
      train: the run.
      done: finished steps.
      end: the last step of the stage; None if that is not known.
      mesh: the run's devices.
    """
    if mesh.devices.flat[0].platform == "cpu" or train.profile is not None:
        return 1
    intervals = [train.log_every, train.save_every, train.sample_every, done]
    if train.validation.wanted:
        intervals.append(train.validation.every)
    return math.gcd(STEPS_PER_CALL, *intervals, 0 if end is None else end - done)
