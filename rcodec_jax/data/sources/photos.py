"""Pictures of a source in one file of a bounded size, to be sent to a machine lent for a while.

An .npz of WebP pictures one after the other, scaled down where the bound asks for it. WebP of
quality 90 takes half of what cameras' JPEG does, and a picture that is smaller than it was hides
what its coding did to it. Reading one needs NumPy and Pillow only.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write
from rcodec_jax.progress import Progress, no_progress

SUFFIX = ".npz"
QUALITY = 90
LEAST_SIDE_PX = 192
"""Pictures are not scaled down below this shorter side."""

_VERSION = 1
_ARRAYS = {"version", "bytes", "ends", "sizes"}
_OVERHEAD_BYTES = 4096
_SAMPLE = 48
_TRIES = 8


class PhotoFile(PictureSource):
    """The pictures of a file that `write_photos` wrote.

    Args:
      path: the file.
      cache_bytes: upper bound of the decoded pixels kept in memory; 0 keeps none.

    Raises:
      UsageError: missing, damaged, or another file.
    """

    def __init__(self, path: str | os.PathLike[str], *, cache_bytes: int = 0) -> None:
        self._path = Path(path)
        try:
            with self._path.open("rb") as file, np.load(file) as arrays:
                if set(arrays) != _ARRAYS or int(arrays["version"]) != _VERSION:
                    raise ValueError("other arrays in it")
                self._bytes, ends = arrays["bytes"], arrays["ends"].astype(np.int64)
                sizes = arrays["sizes"]
            starts = np.concatenate([[0], ends])[:-1]
            if not len(ends) or sizes.shape != (len(ends), 2) or ends[-1] != self._bytes.size:
                raise ValueError("its arrays do not fit one another")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path}: expected what 'rcodec data photos' wrote: {error}") from None
        self._places = np.stack([starts, ends], axis=1)
        super().__init__(len(ends), sizes, cache_bytes=cache_bytes)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._places.tobytes() + self._bytes.tobytes()).hexdigest()

    def name(self, picture: int) -> str:
        start, end = self._places[picture]  # names are not in the file
        return hashlib.sha256(self._bytes[start:end].tobytes()).hexdigest()

    def read(self, picture: int) -> np.ndarray:
        start, end = self._places[picture]
        try:
            return read_image(self._bytes[start:end].tobytes()).pixels
        except UsageError as error:
            raise UsageError(f"{self._path}: picture {picture}: {error}") from error

    def __repr__(self) -> str:
        return f"PhotoFile({str(self._path)!r}, {self.picture_count} images)"


def write_photos(
    sources: list[PictureSource],
    out: str | os.PathLike[str],
    *,
    max_bytes: int,
    quality: int = QUALITY,
    progress: Progress = no_progress,
) -> float:
    """Writes all pictures of some sources into one file that `PhotoFile` reads.

    Args:
      sources: pictures, one source after the other.
      out: the file, which ends in .npz; one that is there is replaced.
      max_bytes: upper bound of its size.
      quality: of WebP, 1..100.
      progress: called with (pictures done, pictures, what).

    Returns:
      What the pictures' sides were scaled by, at most 1.

    Raises:
      UsageError: a name without .npz, too many damaged pictures (for others their neighbours stand
        in), or pictures that cannot be made so small.
    """
    path = Path(out)
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: expected a file name ending in {SUFFIX}")
    room = max_bytes - _OVERHEAD_BYTES - 32 * sum(source.picture_count for source in sources)
    jobs = [(source, index) for source in sources for index in range(source.picture_count)]
    scale = 1.0
    for _ in range(_TRIES):
        some = jobs[:: math.ceil(len(jobs) / _SAMPLE)]
        scale = _fitting(some, scale, room * len(some) / len(jobs), quality)
        encoded = _encoded(jobs, scale, quality, progress)
        size = sum(len(data) for data, _ in encoded)
        if size <= room:
            break
        scale *= 0.98 * math.sqrt(room / size) if room > 0 else 0
    else:
        raise UsageError(f"expected a bound that the pictures fit into, got {max_bytes:,} bytes")
    buffer = io.BytesIO()
    np.savez(
        buffer,
        version=np.array(_VERSION),
        bytes=np.frombuffer(b"".join(data for data, _ in encoded), np.uint8),
        ends=np.cumsum([len(data) for data, _ in encoded]),
        sizes=np.array([shape for _, shape in encoded], np.int32),
    )
    atomic_write(path, buffer.getvalue())
    return scale


Job = tuple[PictureSource, int]
"""A picture of a source."""


def _fitting(jobs: list[Job], scale: float, room: float, quality: int) -> float:
    """About the largest scale, at most that given, at which some pictures fit into `room` bytes."""
    for _ in range(_TRIES):
        size = sum(len(data) for data, _ in _encoded(jobs, scale, quality, no_progress))
        if size <= room or room <= 0:
            break
        scale *= 0.98 * math.sqrt(room / size)
    return scale


def _encoded(
    jobs: list[Job], scale: float, quality: int, progress: Progress
) -> list[tuple[bytes, tuple[int, int]]]:
    """WebP bytes, height and width of pictures scaled down."""

    def encode(job: Job) -> tuple[bytes, tuple[int, int]]:
        source, index = job
        pixels = source.picture(index)
        height, width = pixels.shape[:2]
        ratio = min(1.0, max(scale, LEAST_SIDE_PX / min(height, width)))
        image = Image.fromarray(pixels)
        if ratio < 1:
            size = max(1, round(width * ratio)), max(1, round(height * ratio))
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=4)
        return buffer.getvalue(), (image.height, image.width)

    done = []
    with ThreadPoolExecutor() as pool:
        for result in pool.map(encode, jobs):
            done.append(result)
            progress(len(done), len(jobs), f"pictures at {scale:.0%}")
    return done
