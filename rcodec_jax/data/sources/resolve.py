"""What a path or a name stands for: folders of pictures, packed sets, ArrayRecord files, TFDS."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rcodec_jax.data.sources.latents import LatentSet
from rcodec_jax.data.sources.made import MADE, MadePictures
from rcodec_jax.data.sources.mixture import Source
from rcodec_jax.data.sources.photos import SUFFIX, PhotoFile
from rcodec_jax.data.sources.records import ArrayRecordImages, PackedImages, TfdsImages
from rcodec_jax.data.sources.sources import MAX_DAMAGED, ImageFolder
from rcodec_jax.data.storage.manifest import INFO, is_packed, read_manifest
from rcodec_jax.data.storage.shards import UNFINISHED
from rcodec_jax.errors import UsageError

_TFDS_NAME = re.compile(r"([a-z]\w*)(?:/([\w.-]+))?(?::(\d+\.\d+\.\d+))?")
_MADE = re.compile(rf"{MADE}(?::([1-9]\d{{0,5}}))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def open_source(
    path: str | os.PathLike[str],
    *,
    split: str = "train",
    min_side: int = 1,
    cache_bytes: int = 0,
    exclude: Sequence[str] = (),
    max_damaged: float = MAX_DAMAGED,
) -> Source:
    """Opens whatever a path or a name stands for; nothing is ever fetched from a network.

    In this order: a packed set ('rcodec data pack' or 'latents'), a folder of TFDS, a folder of
    pictures; a file of pictures ('rcodec data photos'); a file or glob of ArrayRecord files; "made"
    or "made:COUNT" for pictures that are drawn (`made`); the name of a data set that TFDS has
    prepared ("name", "name/config", "name:1.0.0") below $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Args:
      path: folder, glob or name.
      split: of a data set of TFDS.
      min_side: pictures with a side below this many pixels are left out, where sizes are known.
      cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.
      exclude: names of files or sub-folders of a folder of pictures to leave out.
      max_damaged: see `ImageFolder`.

    Raises:
      UsageError: none of these, or nothing usable in it.
    """
    text = os.fspath(path)
    folder = Path(text).expanduser()
    if folder.is_dir() and not is_packed(folder):
        if (folder / INFO).is_file():
            return _open_tfds(folder, split, cache_bytes)
        if versions := _versions(folder):
            return _open_tfds(versions[-1], split, cache_bytes)
    if split != "train" and (folder.exists() or glob.has_magic(text)):
        raise UsageError(f"{text}: expected a data set of TFDS, which has splits, for {split!r}")
    if folder.is_dir():
        if is_packed(folder):
            if read_manifest(folder).kind == "latents":
                return LatentSet(folder)
            return PackedImages(folder, min_side=min_side, cache_bytes=cache_bytes)
        if (folder / UNFINISHED).is_dir():
            raise UsageError(f"{folder}: packing was cut short (the same command goes on with it)")
        return ImageFolder(
            folder,
            min_side=min_side,
            cache_bytes=cache_bytes,
            exclude=exclude,
            max_damaged=max_damaged,
        )
    if folder.suffix == SUFFIX and folder.is_file():
        return PhotoFile(folder, cache_bytes=cache_bytes)
    if folder.is_file() or glob.has_magic(text):
        files = sorted(glob.glob(str(folder), recursive=True)) or [str(folder)]
        files = [file for file in files if Path(file).is_file()]
        if not files:
            raise UsageError(f"{text}: expected ArrayRecord files, found none that match")
        return ArrayRecordImages(text, files, cache_bytes=cache_bytes)
    if made := _MADE.fullmatch(text):
        return MadePictures(int(made[1])) if made[1] else MadePictures()
    return _open_tfds(_prepared(text), split, cache_bytes)


def _open_tfds(folder: Path, split: str, cache_bytes: int) -> TfdsImages:
    """Opens a folder of TFDS after a look at its format: TFDS takes a while to say no."""
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
        splits = [entry["name"] for entry in info["splits"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / INFO}: not what TFDS writes: {error}") from None
    if "array_record" not in formats:
        raise UsageError(
            f"{folder}: expected ArrayRecord files, got {formats[0]}, which only TensorFlow reads "
            "(prepare the data set again with file_format='array_record')"
        )
    if re.split(r"[\[+]", split)[0] not in [*splits, "all"]:
        raise UsageError(f"{folder}: expected a split out of {', '.join(splits)}, got {split!r}")
    return TfdsImages(folder, split=split, cache_bytes=cache_bytes)


def _prepared(name: str) -> Path:
    """Folder of a data set that TFDS has prepared on this machine."""
    match = _TFDS_NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name}: expected a folder, ArrayRecord files or the name of a TFDS data set, "
            "got nothing there"
        )
    root = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    dataset, config, version = match.groups()
    folder = root / dataset / config if config else root / dataset
    versions = _versions(folder)
    if not versions and not config:
        configs = sorted(p for p in folder.glob("*") if p.is_dir() and _versions(p))
        if len(configs) > 1:
            choices = ", ".join(f"{dataset}/{p.name}" for p in configs)
            raise UsageError(f"{name}: expected one of {choices}")
        versions = _versions(configs[0]) if configs else []
    chosen = [v for v in versions if version in (None, v.name)]
    if not chosen:
        raise UsageError(
            f"{name}: expected a folder, ArrayRecord files or a TFDS data set prepared under "
            f"{root} (TFDS_DATA_DIR names another place), found none"
        )
    return chosen[-1]


def _versions(folder: Path) -> list[Path]:
    """Sub-folders that hold a version of a TFDS data set, in ascending order."""
    found = [p for p in folder.glob("*") if _VERSION.fullmatch(p.name) and (p / INFO).is_file()]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])
