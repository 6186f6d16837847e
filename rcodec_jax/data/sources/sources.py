"""Random-access sources of training pictures."""

from __future__ import annotations

import abc
import bisect
import errno
import hashlib
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rcodec_jax.data.pictures.images import open_image, read_image
from rcodec_jax.errors import StorageError, UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_MAX_ENTRIES = 2**22
MAX_DAMAGED = 0.01
"""Share of a folder's pictures; more is no accident. A single one may be, of few too."""

_LASTING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM)


class PictureSource(abc.ABC):
    """Pictures by index, uint8 [H, W, 3]; thread-safe, and picklable for worker processes.

    Where sizes are known, large pictures are listed several times, in proportion to their area, so
    that a random crop of a random entry finds every pixel about equally likely.

    The cache holds decoded pixels up to `cache_bytes` and never evicts: access is uniformly
    random, so whatever came first is as good as anything else. Each process has its own.

    Attributes:
      kind: what an entry is; the other kind is "latents".
      picture_count: pictures, each counted once.
      pixel_count: their pixels in all; None if sizes are not known.
      areas_px: pixels of each, float64; None if sizes are not known.
    """

    kind: Literal["images", "latents"] = "images"
    picture_count: int
    pixel_count: int | None
    areas_px: np.ndarray | None

    def __init__(
        self, count: int, sizes_px: np.ndarray | None = None, *, cache_bytes: int = 0
    ) -> None:
        """Lists the entries.

        Args:
          count: pictures.
          sizes_px: height and width of each [count, 2]; None lists each picture once.
          cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.
        """
        self.picture_count = count
        self.pixel_count, self.areas_px = None, None
        self._entries = np.arange(count, dtype=np.int64)
        if sizes_px is not None:
            self.areas_px = np.prod(np.asarray(sizes_px, np.float64), axis=1)
            self.pixel_count = int(self.areas_px.sum())
            self._entries = _entries_by_area(self.areas_px)
        self._cache_bytes = cache_bytes
        self._cache: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        self._lock = threading.Lock()

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """What tells this data from other data, hexadecimal; not a checksum of every byte."""

    @abc.abstractmethod
    def read(self, picture: int) -> np.ndarray:
        """Decodes a picture, 0..picture_count - 1.

        Raises:
          UsageError: it is damaged.
          StorageError: the operating system cannot read it.
        """

    def name(self, picture: int) -> str:
        """What a picture is called, the same wherever the data lie; its number if nothing better.

        By it a share of the pictures is held out (`hold_out`).
        """
        return str(picture)

    def readable(self, picture: int, among: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Pixels of a picture, uint8 [H, W, 3], read-only; or of another one that stands in for it.

        Args:
          picture: 0..picture_count - 1.
          among: pictures that may stand in, ascending, itself among them; None for all.

        Raises:
          UsageError, StorageError: as `read`.
        """
        del among  # of a folder
        return self._pixels(picture)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> np.ndarray:
        """Pixels of an entry, uint8 [H, W, 3], read-only.

        Raises:
          UsageError, StorageError: as `readable`.
        """
        return self.readable(int(self._entries[index]))

    def picture(self, picture: int) -> np.ndarray:
        """Pixels of a picture, 0..picture_count - 1, as its entries have them.

        Raises:
          UsageError, StorageError: as `read`.
        """
        return self[int(np.searchsorted(self._entries, picture))]  # the entries ascend

    @property
    def shares(self) -> np.ndarray:
        """Chance of each picture, float64 [picture_count], whose sum is 1."""
        return np.bincount(self._entries, minlength=self.picture_count) / len(self._entries)

    def _pixels(self, picture: int) -> np.ndarray:
        """Pixels of a picture, read-only, from the cache or read."""
        cached = self._cache.get(picture)
        if cached is not None:
            return cached
        pixels = self.read(picture)
        pixels.flags.writeable = False
        with self._lock:
            fits = self._cached_bytes + pixels.nbytes <= self._cache_bytes
            if fits and picture not in self._cache:
                self._cache[picture] = pixels
                self._cached_bytes += pixels.nbytes
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        # For worker processes: neither the lock nor the cached pixels travel.
        state = self.__dict__.copy()
        del state["_lock"]
        return {**state, "_cache": {}, "_cached_bytes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class ImageFolder(PictureSource):
    """The pictures of a folder and the folders below it, by path: the same order everywhere.

    Opening a folder reads headers only. For a picture that turns out to be damaged there is a
    warning, and the next one by path that can be decoded stands in: a run does not end days after
    its start, and gets the same pictures in every process and after a restart.

    Attributes:
      paths: the pictures, sorted.
      sizes_px: (height, width) of each as stored in the file, before EXIF orientation.
      skipped: (path, reason) of files left out: too small, or not an image.
      small_count: how many of these are too small.
      other_kinds: number of files by suffix that are of no kind of picture that is read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        min_side: int = 1,
        cache_bytes: int = 0,
        exclude: Sequence[str] = (),
        max_damaged: float = MAX_DAMAGED,
    ) -> None:
        """Lists the folder and reads the header of every picture.

        Args:
          root: folder, searched recursively for JPEG, PNG and WebP.
          min_side: pictures with a side below this many pixels are left out.
          cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.
          exclude: names of files or folders to leave out, at any depth below the root.
          max_damaged: share of the pictures that may turn out to be damaged, 0..1; one may be in
            any case, unless this is 0.

        Raises:
          UsageError: no such folder, or nothing usable in it.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise UsageError(f"{self.root}: expected a folder with images, got no such folder")
        self.paths: list[Path] = []
        self.sizes_px: list[tuple[int, int]] = []
        self.skipped: list[tuple[Path, str]] = []
        self.small_count, self.min_side = 0, min_side
        self.other_kinds: dict[str, int] = {}
        self._scan(min_side, frozenset(exclude))
        if not self.paths:
            raise UsageError(
                f"{self.root}: expected images ({' '.join(SUFFIXES)}) with sides of at least "
                f"{min_side} px, found none ({len(self.skipped)} left out)"
            )
        super().__init__(len(self.paths), np.array(self.sizes_px), cache_bytes=cache_bytes)
        self._damaged: dict[int, str] = {}
        self._max_damaged = max_damaged

    @property
    def damaged(self) -> list[tuple[Path, str]]:
        """(path, reason) of pictures that turned out to be damaged in this process, by path."""
        with self._lock:
            return [(self.paths[picture], why) for picture, why in sorted(self._damaged.items())]

    def name(self, picture: int) -> str:
        return self.paths[picture].relative_to(self.root).as_posix()

    def readable(self, picture: int, among: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Pixels of a picture, uint8 [H, W, 3], read-only; of the next one if it is damaged.

        Raises:
          UsageError: more pictures than `max_damaged` allows turned out to be damaged, or all that
            may stand in.
          StorageError: as `read`.
        """
        others = range(self.picture_count) if among is None else among
        first = bisect.bisect_left(others, picture)
        for step in range(len(others)):
            candidate = int(others[(first + step) % len(others)])
            if candidate not in self._damaged:
                try:
                    return self._pixels(candidate)
                except UsageError as error:
                    self._leave_out(candidate, error)
        raise UsageError(f"{self.root}: {self.name(picture)} and all that may stand in are damaged")

    def _leave_out(self, picture: int, error: UsageError) -> None:
        bound = self._max_damaged
        allowed = max(int(bound * self.picture_count), 1 if bound else 0)
        with self._lock:
            known = picture in self._damaged  # to another thread
            count = len(self._damaged) + (not known)
            if not known and count > min(allowed, self.picture_count - 1):
                raise UsageError(
                    f"{error}; with it {count} of {self.picture_count} pictures of {self.root} are "
                    f"damaged, expected at most {allowed} (train.data.max_damaged, a share of "
                    f"{bound:g}; 'rcodec data pack' leaves out and lists all that are)"
                ) from error
            self._damaged[picture] = str(error)
        if not known:
            warnings.warn(
                f"{error}; the next picture stands in ('rcodec data pack' finds what is damaged "
                "before a run)",
                stacklevel=3,
            )

    @property
    def digest(self) -> str:
        return files_digest((self.name(at), path) for at, path in enumerate(self.paths))

    def read(self, picture: int) -> np.ndarray:
        try:
            return read_image(self.paths[picture]).pixels
        except UsageError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno is not None:  # decoders give no number
                path = self.paths[picture]
                raise StorageError(f"{path}: cannot be read: {cause.strerror}") from cause
            if isinstance(cause, MemoryError):
                raise StorageError(str(error)) from cause
            raise

    def __repr__(self) -> str:
        # grain logs its source; a short and stable text.
        return f"ImageFolder({str(self.root)!r}, {len(self.paths)} images)"

    def _scan(self, min_side: int, exclude: frozenset[str]) -> None:
        for path in _files(self.root, exclude):
            if not path.name.lower().endswith(SUFFIXES):
                kind = path.suffix.lower() or "without suffix"
                self.other_kinds[kind] = self.other_kinds.get(kind, 0) + 1
                continue
            try:
                image, _ = open_image(path)
            except UsageError as error:
                self.skipped.append((path, str(error)))
                continue
            with image:
                width, height = image.size
            if min(width, height) < min_side:
                self.skipped.append((path, f"{width}x{height} is below {min_side} px"))
                self.small_count += 1
                continue
            self.paths.append(path)
            self.sizes_px.append((height, width))


def image_paths(root: Path, exclude: frozenset[str]) -> list[Path]:
    """JPEG, PNG and WebP files below a folder by suffix, hidden ones left out, sorted by path.

    Links are followed, but not into a folder that they are in.
    """
    return [path for path in _files(root, exclude) if path.name.lower().endswith(SUFFIXES)]


def _files(root: Path, exclude: frozenset[str]) -> list[Path]:
    """All files below a folder but hidden ones, as `image_paths`."""
    found = []
    above = {os.fspath(root): frozenset([_identity(root)])}
    for folder, folders, files in os.walk(root, followlinks=True):
        way = above.pop(folder)
        names = [name for name in folders if name not in exclude and name[0] != "."]
        below = {name: _identity(Path(folder, name)) for name in names}
        folders[:] = [name for name in names if below[name] not in way]
        above |= {os.path.join(folder, name): way | {below[name]} for name in folders}
        found += [Path(folder, name) for name in files if name not in exclude and name[0] != "."]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def files_digest(files: Iterable[tuple[str, str | os.PathLike[str]]]) -> str:
    """SHA-256 over the names and sizes of files, given as (name, path); see `file_size`."""
    digest = hashlib.sha256()
    for name, path in files:
        size = file_size(path)
        digest.update(f"{size} {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_size(path: str | os.PathLike[str]) -> int:
    """Size of a file in bytes; -1 for a name that leads to no file, or to none of ours.

    Raises:
      StorageError: the operating system cannot tell.
    """
    try:
        return os.stat(path).st_size
    except OSError as error:
        if is_lasting(error):
            return -1
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def is_lasting(error: OSError) -> bool:
    """Whether a file is missing or forbidden, and not just out of reach for now."""
    return error.errno in _LASTING


def _identity(folder: Path) -> tuple[int, int] | None:
    """What a folder is, whatever it is called; None where that cannot be told."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entries_by_area(areas: np.ndarray) -> np.ndarray:
    """Index of the picture of each entry, int32; pictures repeated in proportion to their area."""
    # A quarter of the smallest as the unit keeps the rounding of each share below 1/8.
    unit = max(areas.min() / 4, areas.sum() / _MAX_ENTRIES)
    repeats = np.maximum(1, np.rint(areas / unit)).astype(np.int64)
    return np.repeat(np.arange(len(areas), dtype=np.int32), repeats)
