"""Sources of records: packed sets, any ArrayRecord files, data sets of TFDS."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.sources.sources import PictureSource, files_digest
from rcodec_jax.data.storage.examples import decode_example
from rcodec_jax.data.storage.manifest import Manifest, read_manifest, read_sizes
from rcodec_jax.errors import RcodecError, StorageError, UsageError

_IMAGE_KEYS = ("image", "image/encoded")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
_CALL_FAILED = re.compile(r"\b[a-z]+\(\) failed: ")
"""ArrayRecord's reader says so of the operating system, `read() failed: Stale file handle`."""


class ArrayRecords:
    """Records of ArrayRecord files by index, as bytes; files are opened when they are needed."""

    def __init__(
        self, name: str, files: Sequence[str], lengths: Sequence[int] | None = None
    ) -> None:
        """Takes the files.

        Args:
          name: of the whole, for messages.
          files: paths in order.
          lengths: records of each; None opens every file to count them.

        Raises:
          UsageError: a file that is no ArrayRecord.
        """
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._name = name
        spans = list(files)
        if lengths is not None:
            spans = [f"{file}[0:{n}]" for file, n in zip(files, lengths, strict=True)]
        try:
            self._source = ArrayRecordDataSource(spans)
        except Exception as error:  # RuntimeError and others, by the way in which they are none
            raise UsageError(f"{name}: not ArrayRecord files: {_first_line(error)}") from None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> bytes:
        """A record.

        Raises:
          UsageError: it is damaged (each record has a checksum).
          StorageError: the operating system cannot read it; its file may be gone.
        """
        try:
            record: bytes = self._source[index]
        except Exception as error:
            raise _unreadable(f"{self._name}: record {index}", error) from None
        return record


class PackedImages(PictureSource):
    """Pictures that `rcodec data pack` wrote.

    Attributes:
      folder: of the set.
      manifest: what it says of itself.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, min_side: int = 1, cache_bytes: int = 0
    ) -> None:
        """Opens a set without reading a record.

        Args:
          folder: of the set.
          min_side: pictures with a side below this many pixels are left out.
          cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.

        Raises:
          UsageError: no such set, or nothing in it that is large enough.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(folder)
        sizes = read_sizes(folder, self.manifest)
        self._kept = np.flatnonzero(sizes.min(axis=1) >= min_side)
        if not len(self._kept):
            raise UsageError(
                f"{folder}: expected pictures with sides of at least {min_side} px, found none"
            )
        self._records = packed_records(self.folder, self.manifest)
        super().__init__(len(self._kept), sizes[self._kept], cache_bytes=cache_bytes)

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def read(self, picture: int) -> np.ndarray:
        record = int(self._kept[picture])
        return _decode(self._records[record], f"{self.folder}: record {record}")

    def __repr__(self) -> str:
        return f"PackedImages({str(self.folder)!r}, {self.picture_count} images)"


class ArrayRecordImages(PictureSource):
    """Pictures of ArrayRecord files that somebody else wrote.

    A record is an encoded picture or a `tf.train.Example` with one under "image" or
    "image/encoded". Sizes are not known, so each picture is listed once.

    Attributes:
      files: as they were given.
    """

    def __init__(self, pattern: str, files: Sequence[str], *, cache_bytes: int = 0) -> None:
        """Opens the files to count their records.

        Args:
          pattern: what the user wrote, for messages.
          files: paths.
          cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.

        Raises:
          UsageError: no ArrayRecord, or without pictures.
        """
        self.pattern, self._files = pattern, list(files)
        self.files = [Path(file) for file in files]
        self._records = ArrayRecords(pattern, files)
        if not len(self._records):
            raise UsageError(f"{pattern}: expected records with pictures, found none")
        super().__init__(len(self._records), cache_bytes=cache_bytes)
        try:
            self.read(0)
        except StorageError as error:
            raise UsageError(str(error)) from None

    @property
    def digest(self) -> str:
        return files_digest((Path(file).name, file) for file in self._files)

    def read(self, picture: int) -> np.ndarray:
        return _decode(self._records[picture], f"{self.pattern}: record {picture}")

    def __repr__(self) -> str:
        return f"ArrayRecordImages({self.pattern!r}, {self.picture_count} images)"


class TfdsImages(PictureSource):
    """Pictures of a data set of TFDS in ArrayRecord files, through its own `data_source`.

    The pictures are taken as encoded bytes and decoded here. Sizes are not known, so each picture
    is listed once.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, split: str = "train", cache_bytes: int = 0
    ) -> None:
        """Opens a split.

        Args:
          folder: the one with dataset_info.json.
          split: name, or a slice such as "train[:90%]".
          cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.

        Raises:
          UsageError: no such split, no pictures in it, or not in ArrayRecord files.
        """
        import tensorflow_datasets as tfds

        self.folder, self.split = Path(folder), split
        try:
            builder = tfds.builder_from_directory(str(folder))
        except Exception as error:
            raise UsageError(f"{folder}: TFDS cannot read it: {_first_line(error)}") from None
        images = [
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8
        ]
        if not images:
            raise UsageError(
                f"{folder}: expected a feature of 8-bit pictures, "
                f"got {', '.join(builder.info.features)}"
            )
        self._key = "image" if "image" in images else images[0]
        try:
            self._source: Any = builder.as_data_source(
                split=split, decoders={self._key: tfds.decode.SkipDecoding()}
            )
        except Exception as error:
            raise UsageError(
                f"{folder}: cannot read split {split!r} out of "
                f"{', '.join(builder.info.splits)}: {_first_line(error)}"
            ) from None
        if not len(self._source):
            raise UsageError(f"{folder}: split {split!r} is empty")
        super().__init__(len(self._source), cache_bytes=cache_bytes)

    @property
    def digest(self) -> str:
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        return files_digest([*((path.name, path) for path in files), (self.split, os.devnull)])

    def read(self, picture: int) -> np.ndarray:
        name = f"{self.folder}: {self.split!r}, record {picture}"
        try:
            data = self._source[picture][self._key]
        except Exception as error:
            raise _unreadable(name, error) from None
        return _decode(data, name)

    def __repr__(self) -> str:
        return f"TfdsImages({str(self.folder)!r}, {self.split!r}, {self.picture_count} images)"


def packed_records(folder: Path, manifest: Manifest) -> ArrayRecords:
    """Records of a packed set.

    Raises:
      UsageError: a shard is missing.
    """
    files = [folder / shard.file for shard in manifest.shards]
    for path in files:
        if not path.is_file():
            raise UsageError(f"{path}: missing from the packed data set")
    lengths = [shard.records for shard in manifest.shards]
    return ArrayRecords(str(folder), [str(path) for path in files], lengths)


def _image_bytes(record: bytes) -> bytes:
    if record.startswith(_MAGIC):
        return record
    features = decode_example(record)
    for key in _IMAGE_KEYS:
        values = features.get(key)
        if values and isinstance(values[0], bytes):
            return values[0]
    raise UsageError(f"expected a picture under 'image', got {', '.join(sorted(features))}")


def _decode(record: bytes, name: str) -> np.ndarray:
    """Pixels of a record that is, or holds, an encoded picture."""
    try:
        return read_image(_image_bytes(record)).pixels
    except UsageError as error:
        raise UsageError(f"{name}: {str(error).removeprefix('image: ')}") from None


def _unreadable(name: str, error: Exception) -> RcodecError:
    reason = _first_line(error)
    kind = StorageError if _CALL_FAILED.search(reason) else UsageError
    return kind(f"{name} cannot be read: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
