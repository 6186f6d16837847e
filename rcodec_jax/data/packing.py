"""`rcodec data pack`: a folder of pictures becomes sharded ArrayRecord that TFDS and grain read."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL

from rcodec_jax.data.loading.workers import end_with_parent
from rcodec_jax.data.packed_picture import plain_picture
from rcodec_jax.data.sources.sources import file_size, files_digest, image_paths, is_lasting
from rcodec_jax.data.storage.examples import encode_example
from rcodec_jax.data.storage.manifest import Manifest, read_manifest
from rcodec_jax.data.storage.shards import LeftOut, Packing, Record
from rcodec_jax.data.storage.tfdsfolder import IMAGE, INTEGER, TEXT
from rcodec_jax.errors import RcodecError, StorageError, UsageError
from rcodec_jax.progress import Progress, no_progress

FEATURES = {"image": IMAGE, "name": TEXT, "height": INTEGER, "width": INTEGER}
SHARD_BYTES = 2**28
"""Source bytes a shard; fewer are still dealt out to up to MIN_SHARDS, to work in parallel."""

MIN_SHARDS = 16
MIN_PICTURES = 64


def pack_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    max_side: int | None = None,
    exclude: Sequence[str] = (),
    shard_count: int | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Progress = no_progress,
) -> Manifest:
    """Packs the pictures of a folder and the folders below it.

    The bytes written depend on the pictures and the options, not on `workers`, the place of the
    folder or interruptions. (Pictures that have to be encoded anew also depend on the version of
    Pillow.) Called again after an interruption it goes on; after the end it does nothing.

    Args:
      folder: searched for JPEG, PNG and WebP, as `ImageFolder` does.
      out: folder of the packed set; see `manifest`.
      max_side: larger pictures are scaled down to this many pixels on their longer side.
      exclude: names of files or folders to leave out, at any depth.
      shard_count: files; by default by the size of the pictures.
      workers: processes; 1 works in this one.
      force: replace another packed set.
      progress: called with (pictures done, pictures, what).

    Returns:
      The manifest. Pictures that are damaged, missing or forbidden are left out and listed in
      skipped.txt.

    Raises:
      UsageError: no pictures, or `out` holds something else.
      StorageError: the disk is full or cannot be read for now, or memory ran out.
    """
    root, out = Path(folder), Path(out)
    if not root.is_dir():
        raise UsageError(f"{root}: expected a folder with pictures, got no such folder")
    if out.resolve() == root.resolve() or root.resolve() in out.resolve().parents:
        raise UsageError(f"{out}: expected a folder outside {root}, which it would become part of")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: expected a folder to write, got a file")
    paths = image_paths(root, frozenset(exclude))
    if not paths:
        raise UsageError(f"{root}: expected pictures (JPEG, PNG, WebP), found none")
    job = _Job.of(root, out, paths, max_side, shard_count)
    job.packing.begin(force=force)
    if not job.packing.complete:
        _write_shards(job, workers, progress)
        job.packing.finish(FEATURES, {"pillow": PIL.__version__})
    progress(len(paths), len(paths), "")
    return read_manifest(out)


@dataclass(frozen=True)
class _Job:
    """What a worker has to know: the set, and the pictures of each shard."""

    packing: Packing
    root: Path
    names: list[str]
    max_side: int | None

    @classmethod
    def of(
        cls, root: Path, out: Path, paths: list[Path], max_side: int | None, shards: int | None
    ) -> _Job:
        names = [path.relative_to(root).as_posix() for path in paths]
        sizes = [max(0, file_size(path)) for path in paths]
        few = min(MIN_SHARDS, -(-len(paths) // MIN_PICTURES))
        count = min(len(paths), shards or max(few, -(-sum(sizes) // SHARD_BYTES)))
        digest = files_digest(zip(names, paths, strict=True))
        plan: dict[str, Any] = {"pictures": len(paths), "listing": digest}
        plan |= {"max_side": max_side, "shards": count}
        return cls(Packing(out, "images", plan, count), root, names, max_side)

    def shard_names(self, index: int) -> list[str]:
        """Pictures of a shard: consecutive ones, so that its records are in the order of names."""
        count = self.packing.shard_count
        return self.names[len(self.names) * index // count : len(self.names) * (index + 1) // count]

    def write(self, index: int, counter: Any = None) -> None:
        """Writes a shard; `counter.value` is raised by one for every picture."""

        def entries() -> Iterator[Record | LeftOut]:
            for name in self.shard_names(index):
                if counter is not None:
                    with counter.get_lock():
                        counter.value += 1
                yield self._entry(name)

        self.packing.write(index, entries())

    def _entry(self, name: str) -> Record | LeftOut:
        shown = os.fsencode(name).decode("utf-8", "replace")
        try:
            picture = plain_picture((self.root / name).read_bytes(), max_side=self.max_side)
        except UsageError as error:
            return LeftOut(shown, str(error))
        except OSError as error:
            if not is_lasting(error):
                raise StorageError(
                    f"{self.root / name}: cannot be read: {error.strerror or error}; run again to "
                    "go on"
                ) from error
            return LeftOut(shown, (error.strerror or str(error)).lower())
        except MemoryError as error:
            raise StorageError(
                f"{self.root / name}: not enough memory for its pixels; fewer --workers need less, "
                "--exclude leaves a picture out"
            ) from error
        features: dict[str, bytes | int] = {
            "image": picture.data,
            "name": shown.encode(),
            "height": picture.height_px,
            "width": picture.width_px,
        }
        size_px = picture.height_px, picture.width_px
        return Record(encode_example(features), size_px, picture.changed)


def _write_shards(job: _Job, workers: int, progress: Progress) -> None:
    missing = job.packing.missing()
    total = len(job.names)
    before = total - sum(len(job.shard_names(index)) for index in missing)
    if workers <= 1 or len(missing) <= 1:
        for index in missing:
            progress(before, total, f"shard {index + 1} of {job.packing.shard_count}")
            job.write(index)
            before += len(job.shard_names(index))
        return
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", before)
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(missing)), context, initializer=_start_worker, initargs=(job, counter)
    )
    try:
        futures = {pool.submit(_write_in_worker, index) for index in missing}
        while futures:
            done, futures = concurrent.futures.wait(futures, timeout=0.2)
            for future in done:
                future.result()
            progress(counter.value, total, "pictures")
    except BrokenProcessPool:
        raise RcodecError("a process that packs pictures died; run again to go on") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[_Job, Any] | None = None


def _start_worker(job: _Job, counter: Any) -> None:
    global _worker
    _worker = job, counter
    end_with_parent()


def _write_in_worker(index: int) -> None:
    assert _worker is not None
    job, counter = _worker
    job.write(index, counter)
