"""Writing a packed set shard by shard, so that work that was cut short goes on where it was.

A shard is written beside its place and renamed when it is whole; a small report of it is then left
in a sub-folder. Running again with the same plan makes only the shards without a report. Which
records a shard holds follows from the plan alone, so neither interruptions nor the number of
processes show in the bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.data.storage.manifest import (
    FEATURES,
    INFO,
    MANIFEST,
    SIZES,
    SKIPPED,
    SPLIT,
    Kind,
    Manifest,
    Shard,
    file_sha256,
    read_manifest,
    write_manifest,
)
from rcodec_jax.data.storage.tfdsfolder import Feature, dataset_info_json, features_json, shard_name
from rcodec_jax.errors import StorageError, UsageError
from rcodec_jax.files import atomic_write

UNFINISHED = ".unfinished"
_PLAN = "plan.json"
_WRITER_OPTIONS = "group_size:1,uncompressed"
"""One record a chunk, for random access; pictures and latents do not compress further."""

_STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)
_OWN = re.compile(
    rf"(images|latents)-{SPLIT}\.array_record-\d{{5}}-of-\d{{5}}"
    + "".join(f"|{re.escape(name)}" for name in (MANIFEST, SIZES, SKIPPED, INFO, FEATURES))
)


@dataclasses.dataclass(frozen=True)
class Record:
    """One record to write, the (height, width) it is of in pixels, and if it was encoded anew."""

    data: bytes
    size_px: tuple[int, int]
    changed: bool = False


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What is not written, by name, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What became of one shard's records.

    Attributes:
      shard: the file; None if nothing was left for it.
      sizes_px: (height, width) of each record, in pixels.
      skipped: (name, reason) of what was left out.
      changed: how many were encoded anew.
    """

    shard: Shard | None
    sizes_px: list[tuple[int, int]]
    skipped: list[tuple[str, str]]
    changed: int


@dataclasses.dataclass(frozen=True)
class Packing:
    """A set that is being written; picklable, so that worker processes can write its shards.

    Attributes:
      folder: where it goes.
      kind: what it holds; also the data set's name for TFDS.
      plan: everything that decides its bytes, a JSON object.
      shard_count: its files.
    """

    folder: Path
    kind: Kind
    plan: dict[str, Any]
    shard_count: int

    @property
    def complete(self) -> bool:
        """Whether the folder holds a finished set; after `begin`, that of this plan."""
        return (self.folder / MANIFEST).is_file()

    def begin(self, *, force: bool = False) -> None:
        """Takes the folder, or takes up work that was cut short in it.

        Args:
          force: throw away another packed set, finished or not, that it holds, or what has the
            names of one.

        Raises:
          UsageError: it holds anything else.
        """
        try:
            held = self._held_plan()
        except UsageError:
            if not force:
                raise
            held = {}  # a manifest that is damaged, or of another version
        if held == self.plan:
            if self.complete:
                shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
            for path in (self.folder / UNFINISHED).glob("*.part"):  # of a process that was killed
                path.unlink(missing_ok=True)
            return
        if held is not None and not force:
            raise UsageError(
                f"{self.folder}: holds packed data made of another source or with other options "
                "(--force replaces it)"
            )
        if self.folder.is_dir():
            self._clear(ours=held is not None or force)
        (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / UNFINISHED / _PLAN, json.dumps(self.plan).encode())

    def missing(self) -> list[int]:
        """Indices of the shards still to be written."""
        return [index for index in range(self.shard_count) if self.report(index) is None]

    def report(self, index: int) -> ShardReport | None:
        """What became of a shard; None if it is not written yet."""
        try:
            value = json.loads(self._report_path(index).read_bytes())
            shard = None if value["shard"] is None else Shard(**value["shard"])
            if shard and (self.folder / shard.file).stat().st_size != shard.size_bytes:
                return None
            sizes = [(height, width) for height, width in value["sizes_px"]]
            skipped = [(name, reason) for name, reason in value["skipped"]]
            return ShardReport(shard, sizes, skipped, value["changed"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, index: int, entries: Iterable[Record | LeftOut]) -> ShardReport:
        """Writes a shard, 0..shard_count - 1, and its report; there may be no record in it.

        Raises:
          StorageError: the disk is full or went away; running again goes on.
        """
        from array_record.python import array_record_module

        name = shard_name(self.kind, SPLIT, index, self.shard_count)
        part = self.folder / UNFINISHED / f"{index:05d}.{os.getpid()}.part"
        sizes_px: list[tuple[int, int]] = []
        skipped: list[tuple[str, str]] = []
        changed = 0
        with self._storing():
            writer = array_record_module.ArrayRecordWriter(str(part), _WRITER_OPTIONS)
        try:
            for entry in entries:
                if isinstance(entry, LeftOut):
                    skipped.append((entry.name, entry.reason))
                    continue
                with self._storing():
                    writer.write(entry.data)
                sizes_px.append(entry.size_px)
                changed += entry.changed
            with self._storing():
                writer.close()
        except BaseException:
            with contextlib.suppress(Exception):
                writer.close()
            part.unlink(missing_ok=True)
            raise
        shard = None
        with self._storing():
            if sizes_px:
                shard = Shard(name, len(sizes_px), part.stat().st_size, file_sha256(part))
                os.replace(part, self.folder / name)
            else:
                part.unlink()
            report = ShardReport(shard, sizes_px, skipped, changed)
            atomic_write(self._report_path(index), json.dumps(dataclasses.asdict(report)).encode())
        return report

    def finish(self, features: dict[str, Feature], facts: dict[str, Any]) -> Manifest:
        """Makes a data set of the shards once none is missing.

        Raises:
          UsageError: nothing usable was found for any shard.
          StorageError: as `write`.
        """
        reports = [self.report(index) for index in range(self.shard_count)]
        whole = [report for report in reports if report is not None]
        assert len(whole) == self.shard_count, "a shard is missing"
        skipped = sorted(line for report in whole for line in report.skipped)
        sizes = np.array([size for report in whole for size in report.sizes_px], np.uint32)
        if not len(sizes):
            raise UsageError(
                f"{self.folder}: nothing to pack, all {len(skipped)} pictures were left out; "
                f"the first: {skipped[0][0]}: {skipped[0][1]}"
            )
        names = self._close_gaps(whole)
        shards = tuple(
            dataclasses.replace(report.shard, file=names[index])
            for index, report in enumerate(whole)
            if report.shard is not None
        )
        lengths, size = [shard.records for shard in shards], sum(s.size_bytes for s in shards)
        described = f"Packed by rcodec: {self.kind}."
        contents = {
            INFO: dataset_info_json(self.kind, SPLIT, lengths, size, described),
            FEATURES: features_json(features),
            SIZES: _npy(sizes),
            SKIPPED: "".join(f"{name}: {reason}\n" for name, reason in skipped).encode(),
        }
        with self._storing():
            for name, data in contents.items():
                atomic_write(self.folder / name, data)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        changed = sum(report.changed for report in whole)
        counts = {"skipped": len(skipped), "encoded_anew": changed}
        manifest = Manifest(self.kind, shards, sums, {"plan": self.plan, **counts, **facts})
        with self._storing():
            write_manifest(self.folder, manifest)
        shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        return manifest

    def _close_gaps(self, reports: list[ShardReport]) -> dict[int, str]:
        """Renames the shards where some came out empty, since TFDS counts them without gaps."""
        present = [index for index, report in enumerate(reports) if report.shard is not None]
        names = {}
        for new, index in enumerate(present):
            old = shard_name(self.kind, SPLIT, index, self.shard_count)
            names[index] = shard_name(self.kind, SPLIT, new, len(present))
            if old != names[index] and (self.folder / old).exists():
                os.replace(self.folder / old, self.folder / names[index])
        return names

    def _report_path(self, index: int) -> Path:
        return self.folder / UNFINISHED / f"{index:05d}.json"

    def _held_plan(self) -> Any:
        """Plan of what the folder holds, None for nothing of ours."""
        if self.complete:
            return read_manifest(self.folder).facts.get("plan", {})
        try:
            return json.loads((self.folder / UNFINISHED / _PLAN).read_bytes())
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """What the operating system cannot write becomes a StorageError."""
        try:
            yield
        except UsageError as error:  # of `atomic_write`
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _STORAGE_FAULTS:
                raise
            raise StorageError(f"{error}; run again to go on") from cause
        except (OSError, RuntimeError) as error:  # the latter of ArrayRecord
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(";")[0]
            raise StorageError(
                f"{self.folder}: cannot be written: {reason}; run again to go on"
            ) from error

    def _clear(self, *, ours: bool) -> None:
        """Removes our own files; refuses a folder with anything else.

        Args:
          ours: whether files with the names of ours may go; TFDS gives its data sets such names.

        Raises:
          UsageError: as said.
        """
        own = [p for p in self.folder.iterdir() if _OWN.fullmatch(p.name) or p.name == UNFINISHED]
        strange = sorted(p.name for p in self.folder.iterdir() if p not in own)
        if strange:
            raise UsageError(
                f"{self.folder}: expected an empty folder, got one that holds {strange[0]!r}"
            )
        named = sorted(path.name for path in own if path.name != UNFINISHED)
        if named and not ours:
            raise UsageError(
                f"{self.folder}: expected an empty folder, got one that holds {named[0]!r} and no "
                f"{MANIFEST}: perhaps a data set of another program (--force replaces it)"
            )
        # The manifest first: without it the rest is no set.
        for path in sorted(own, key=lambda path: path.name != MANIFEST):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
