"""Batches of random crops with level maps, from a seed, resumable and sharded by process.

Every element is a function of the seed and its global index alone, augmentation included. So the
iterator's whole state is the number of batches it has handed out, and the global batch is the
same for any number of processes, each of which asks for the rows of its devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rcodec_jax.data.loading.transforms import random_crop, random_window, to_grey
from rcodec_jax.data.loading.workers import start_reader
from rcodec_jax.data.sources.latents import LatentSet
from rcodec_jax.data.sources.mixture import Mixture
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX

SampleMaps = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
"""(rng, height_cells, width_cells) -> (level_map uint8 [h, w], nodes int32 [16])."""

RedrawMaps = Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray] | None]
"""(rng, picture uint8 [H, W, 3]) -> the same, or None where the drawn map stays."""


_ENDLESS = 2**52
_PREFETCH_BATCHES = 4
_MAX_THREADS = 16
"""More wait for each other: a crop takes about half a millisecond of the interpreter's lock."""


class RandomAccess(Protocol):
    """What the loader reads from: pixels uint8 [H, W, 3] or latents float16 [h, w, C] by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def make_dataset(
    source: RandomAccess | Mixture,
    *,
    crop_px: int,
    batch_size: int,
    seed: int,
    sample_maps: SampleMaps | None = None,
    grey: float = 0.0,
    redraw_maps: RedrawMaps | None = None,
    rows: Sequence[int] | None = None,
    worker_count: int = 0,
    thread_count: int | None = None,
) -> Batches:
    """An endless iterator over batches, read by grain.

    Args:
      source: random-access source of uint8 [H, W, 3], or of latents (`LatentSet`), or a mixture.
      crop_px: side of the square crops in pixels, a multiple of 8; smaller pictures are padded by
        mirroring, smaller latents are refused.
      batch_size: rows of the *global* batch.
      seed: decides order, crops, flips and maps; 0..2^32 - 1.
      sample_maps: draws the level map of each row; None leaves maps out.
      grey: share of the crops that lose their colours, 0..1; latents keep theirs.
      redraw_maps: may put a map made of the picture in place of the drawn one.
      rows: the rows of the global batch to give, ascending: those of this process's devices
        (`scale.local_rows`). None for all.
      worker_count: worker processes; 0 reads with threads of this process, which is right for
        cached or small data. With workers, the main module needs an `if __name__ == "__main__"`
        guard, and `close()` must be called.
      thread_count: reading threads of this process, or of each worker; None for one a core up to
        16 in this process, 2 in a worker.

    Returns:
      An iterator of dict(image uint8 [b, crop_px, crop_px, 3], and with maps level_map uint8
      [b, crop_px/8, crop_px/8], nodes int32 [b, 16]) of b = len(rows) rows, with `get_state()`,
      `set_state(state)` and `close()`. For latents, latent float16 [b, crop_px/8, crop_px/8, C]
      stands for image; crops are of whole cells and not mirrored, since an encoder's latent of a
      mirrored picture is not the mirrored latent. The state is {"next_index": batches handed out},
      and may be set under any number of threads, workers and processes.

    Raises:
      UsageError: an argument outside its range, or an empty source.
    """
    mixture = source if isinstance(source, Mixture) else None
    sources: Sequence[Any] = mixture.sources if mixture else [source]
    for one in sources:
        _check(one, crop_px, batch_size, seed)
    rows = tuple(range(batch_size)) if rows is None else tuple(rows)
    if not 0 <= grey <= 1:
        raise UsageError(f"grey must be 0..1, got {grey}")
    if not rows or list(rows) != sorted({row for row in rows if 0 <= row < batch_size}):
        raise UsageError(f"rows must be ascending in 0..{batch_size - 1}, got {rows}")
    import grain  # heavy, and absent where only the codec is installed

    # Shuffled by epoch. A source alone has the run's seed, whatever its weight.
    shuffled = [
        grain.MapDataset.source(one).seed(_source_seed(seed, index)).shuffle().repeat()
        for index, one in enumerate(sources)
    ]
    dataset = shuffled[0]
    if mixture and len(sources) > 1:
        dataset = grain.MapDataset.mix(shuffled, weights=mixture.weights).seed(seed)
    # The random map comes before the rows are dealt out: its randomness follows the global index.
    dataset = dataset.random_map(_CropAndMap(crop_px, sample_maps, grey, redraw_maps))
    local = _only_rows(dataset, batch_size, rows)
    if thread_count is None:
        thread_count = 2 if worker_count else max(2, min(_MAX_THREADS, os.cpu_count() or 1))
    read = grain.ReadOptions(
        num_threads=thread_count, prefetch_buffer_size=max(_PREFETCH_BATCHES, thread_count)
    )
    return Batches(local, len(rows), read, worker_count)


class Batches:
    """An endless iterator whose whole state is the number of batches it has handed out.

    grain's own state of an iterator with worker processes is bound to their number; here the
    pipeline is made anew from the position, which costs the same as starting it.
    """

    def __init__(self, dataset: Any, batch_size: int, read: Any, worker_count: int) -> None:
        """Takes an endless `grain.MapDataset` of rows, and how to read it."""
        self._dataset, self._batch_size = dataset, batch_size
        self._read, self._worker_count = read, worker_count
        self._iterator: Any = None
        self._next = 0

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            self._iterator = self._start()
        batch: dict[str, np.ndarray] = next(self._iterator)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position, as plain data."""
        return {"next_index": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on from a position.

        Raises:
          UsageError: not a state that `get_state` gave.
        """
        position = state.get("next_index")
        if not isinstance(position, int) or position < 0 or len(state) != 1:
            raise UsageError(f"expected the state of a loader, got {state}")
        if position != self._next:  # or what is read ahead would be lost
            self.close()
            self._next = position

    def close(self) -> None:
        """Ends threads and worker processes; the next batch would start them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _start(self) -> Any:
        import grain

        # An end that nobody reaches: grain rounds the length of batches of an endless data set up
        # to more than an integer holds.
        first = self._next * self._batch_size
        rows = self._dataset[first : first + _ENDLESS]
        batches = rows.batch(self._batch_size).to_iter_dataset(self._read)
        if self._worker_count:
            from absl import flags

            if not flags.FLAGS.is_parsed():  # grain's workers copy the flags of this process
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=self._worker_count)
            batches = batches.mp_prefetch(options, start_reader)
        return iter(batches)


@dataclass(frozen=True)
class _CropAndMap:
    """The random transformation of one row; a class so that worker processes can load it."""

    crop_px: int
    sample_maps: SampleMaps | None
    grey: float
    redraw_maps: RedrawMaps | None

    def __call__(self, entry: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        cells = self.crop_px // CELL_PX
        if entry.dtype == np.uint8:
            row = {"image": random_crop(entry, self.crop_px, rng=rng)}
        else:
            row = {"latent": random_window(entry, cells, rng=rng)}
        if self.sample_maps is not None:
            row["level_map"], row["nodes"] = self.sample_maps(rng, cells, cells)
        # Drawn after crop and random map, and only if asked for: these stay as they are without.
        if self.grey and "image" in row and rng.random() < self.grey:
            row["image"] = to_grey(row["image"])
        if self.redraw_maps is not None and "image" in row:
            redrawn = self.redraw_maps(rng, row["image"])
            if redrawn is not None:
                row["level_map"], row["nodes"] = redrawn
        return row


def _source_seed(seed: int, index: int) -> int:
    """The order of each source of a mixture is its own, or alike sources would go in step."""
    if index == 0:
        return seed
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _only_rows(dataset: Any, batch_size: int, rows: tuple[int, ...]) -> Any:
    """Keeps some rows of every global batch of an endless data set."""
    import grain

    class OnlyRows(grain.MapDataset):
        def __len__(self) -> int:
            return len(self._parent) // batch_size * len(rows)

        def __getitem__(self, index: Any) -> Any:
            if isinstance(index, slice):
                return self.slice(index)
            batch, row = divmod(index, len(rows))
            return self._parent[batch * batch_size + rows[row]]

    return OnlyRows(dataset) if len(rows) != batch_size else dataset


def _check(
    source: RandomAccess,
    crop_px: int,
    batch_size: int,
    seed: int,
) -> None:
    if len(source) == 0:
        raise UsageError("expected a source with at least one image, got an empty one")
    if crop_px < CELL_PX or crop_px % CELL_PX:
        raise UsageError(f"crop_px must be a positive multiple of {CELL_PX}, got {crop_px}")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed must be 0..2^32 - 1, got {seed}")
    if isinstance(source, LatentSet) and min(source.shape[:2]) * CELL_PX < crop_px:
        height, width, _ = source.shape
        raise UsageError(
            f"{source.folder}: expected latents of at least {crop_px} px for crops of that size, "
            f"got {width * CELL_PX}x{height * CELL_PX} px"
        )
