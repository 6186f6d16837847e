"""What a packed data set says of itself, and whether it is still what was written.

A packed set is a TFDS folder of ArrayRecord files (dataset_info.json and features.json beside the
shards), with three files of our own: sizes.npy, the height and width of each record, so that
opening the set reads no record; skipped.txt, what was left out and why; and pack.json, the
manifest, which is written last and holds a digest of every other file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.files import write_json
from rcodec_jax.progress import Progress, no_progress

MANIFEST = "pack.json"
SIZES = "sizes.npy"
SKIPPED = "skipped.txt"
INFO = "dataset_info.json"
FEATURES = "features.json"
PACK_VERSION = 1
SPLIT = "train"

Kind = Literal["images", "latents"]


@dataclasses.dataclass(frozen=True)
class Shard:
    """One ArrayRecord file: its name, records, size in bytes and SHA-256 in hexadecimal."""

    file: str
    records: int
    size_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A packed set.

    Attributes:
      kind: what its records hold.
      shards: its files in order.
      files: SHA-256 of the small files beside them.
      facts: how it was made, any JSON object.
    """

    kind: Kind
    shards: tuple[Shard, ...]
    files: dict[str, str]
    facts: dict[str, Any]

    @property
    def records(self) -> int:
        """Records in all."""
        return sum(shard.records for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def digest(self) -> str:
        """One digest of the whole set: SHA-256 over those of its files, by name."""
        sums = {**self.files, **{shard.file: shard.sha256 for shard in self.shards}}
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        return hashlib.sha256(lines.encode()).hexdigest()


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a finished packed set."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Reads pack.json and holds it against its own digest.

    Raises:
      UsageError: missing, damaged, or of a version that this release does not read.
    """
    path = Path(folder) / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value["pack_version"]
        if version != PACK_VERSION:
            raise UsageError(
                f"{path}: expected version {PACK_VERSION} of packed data, got {version}"
            )
        shards = tuple(Shard(**shard) for shard in value["shards"])
        manifest = Manifest(value["kind"], shards, dict(value["files"]), dict(value["facts"]))
        declared = value["digest"]
    except FileNotFoundError:
        raise UsageError(f"{folder}: expected a packed data set, found no {MANIFEST}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: not the manifest of a packed data set: {error}") from None
    if declared != manifest.digest:
        raise UsageError(f"{path}: expected digest {manifest.digest}, got {declared}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes pack.json, which makes the set a finished one."""
    value = {
        "pack_version": PACK_VERSION,
        "digest": manifest.digest,
        "kind": manifest.kind,
        "records": manifest.records,
        "facts": manifest.facts,
        "files": manifest.files,
        "shards": [dataclasses.asdict(shard) for shard in manifest.shards],
    }
    write_json(folder / MANIFEST, value)


def read_sizes(folder: str | os.PathLike[str], manifest: Manifest) -> np.ndarray:
    """Height and width of every record, uint32 [records, 2].

    Raises:
      UsageError: missing, or not what was written.
    """
    path = Path(folder) / SIZES
    try:
        with path.open("rb") as stream:  # not `load`: it would also open archives of arrays
            sizes = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if sizes.shape != (manifest.records, 2) or sizes.dtype != np.uint32:
        raise UsageError(
            f"{path}: expected uint32 [{manifest.records}, 2], got {sizes.dtype} {sizes.shape}"
        )
    return np.asarray(sizes)


def check(folder: str | os.PathLike[str], progress: Progress = no_progress) -> list[str]:
    """Reads every file of a packed set and compares its SHA-256 with the manifest's.

    Returns:
      What is wrong, a line for each file; empty if all is as it was written.

    Raises:
      UsageError: there is no manifest that can be read.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    expected = {shard.file: (shard.sha256, shard.size_bytes) for shard in manifest.shards}
    for name, digest in manifest.files.items():
        expected[name] = digest, -1
    wrong = []
    for done, (name, (digest, size)) in enumerate(expected.items()):
        progress(done, len(expected), name)
        try:
            actual = (folder / name).stat().st_size
            if size not in (-1, actual):
                wrong.append(f"{name}: expected {size} bytes, got {actual}")
            elif (got := file_sha256(folder / name)) != digest:
                wrong.append(f"{name}: expected SHA-256 {digest}, got {got}")
        except OSError as error:
            wrong.append(f"{name}: {error.strerror or error}")
    progress(len(expected), len(expected), "")
    return wrong


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
