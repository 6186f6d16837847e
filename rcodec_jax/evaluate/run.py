"""Rate-distortion runs: every picture through every coder at every setting, with real files."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rcodec_jax.data import read_image
from rcodec_jax.errors import BitstreamError, UsageError
from rcodec_jax.evaluate.coders import Coder, Setting
from rcodec_jax.evaluate.journal import Journal, digest, keep
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.files import PICTURES
from rcodec_jax.progress import Progress, no_progress

TOGETHER = 8
"""Most files of a picture that are coded before they are measured: what a crash costs."""

LARGE_PX = 1 << 21
"""Files of pictures of more pixels are coded and measured one by one: both take much memory."""

MASK_ENDINGS = ("_inst", "_mask")
"""Stems that end so are masks of other pictures, not pictures."""


@dataclass(frozen=True)
class Row:
    """One file: a picture through a coder at a setting."""

    picture: str
    codec: str
    setting: str
    width_px: int
    height_px: int
    size_bytes: int
    bpp: float
    """Bits of the whole file over pixels of the original."""
    figures: Mapping[str, float | None]
    """By name (see `evaluate.metric`); None where `Meter.whole` has none."""
    encode_seconds: float
    decode_seconds: float
    model: str = ""
    """Which model made it, in words; empty for other codecs."""


@dataclass(frozen=True)
class Skipped:
    """A file that a coder refused to make, or a picture that cannot be read, with the reason."""

    picture: str
    codec: str
    """Empty for a picture that cannot be read, as is the setting."""
    setting: str
    reason: str


@dataclass
class Run:
    """Everything measured, in the order it was."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def list_pictures(
    folder: str | Path, *, every: int = 1, limit: int | None = None, out: str | Path | None = None
) -> list[Path]:
    """Pictures below `folder`, sorted; masks left out; each `every`-th, at most `limit`.

    Files whose names begin with a dot are no pictures (see `hidden_pictures`), nor are those below
    `out`, where results lie. Raises UsageError if there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of pictures, got {folder}")
    if every < 1 or (limit is not None and limit < 1):
        raise UsageError(f"every and limit are at least 1, got {every} and {limit}")
    found = [path for path in _files(folder, out) if not path.name.startswith(".")]
    if not found:
        raise UsageError(f"no pictures in {folder} (looked for {' '.join(sorted(PICTURES))})")
    return found[::every][:limit]


def hidden_pictures(folder: str | Path, *, out: str | Path | None = None) -> list[Skipped]:
    """Files that end like pictures but are hidden, as macOS leaves `._x.png` beside x.png."""
    folder = Path(folder)
    return [
        Skipped(
            path.relative_to(folder).as_posix(), "", "", "a hidden file: its name begins with ."
        )
        for path in _files(folder, out)
        if path.name.startswith(".")
    ]


def _files(folder: Path, out: str | Path | None) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES and not path.stem.endswith(MASK_ENDINGS)
    )
    if out is None:
        return found
    own = Path(out).resolve()
    return [path for path in found if own not in path.resolve().parents]


def coded_path(folder: Path, picture: str, codec: str, setting: str, suffix: str) -> Path:
    """Where a coded file of a run is kept below `folder`."""
    return folder / picture / f"{codec}_{setting}{suffix}"


def run(
    pictures: Sequence[Path],
    coders: Sequence[Coder],
    meter: Meter,
    *,
    root: Path,
    journal: Journal | None = None,
    kept: Path | None = None,
    into: Run | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Encodes, decodes and measures; one picture in memory at a time, with some files of it.

    A coder that raises UsageError for a setting (a rate out of reach) is noted as skipped there; so
    is a file that its own decoder refuses, and a picture that cannot be read.

    Args:
      pictures: files to read.
      root: folder the names in the rows are relative to.
      journal: gets each row as it comes; what it has already is not measured again.
      kept: folder for the coded files, None to keep none.
      into: filled as the run goes on, so that its rows are there if something stops it.
      progress: called before each file is coded and once at the end.

    Raises:
      UsageError: none of the pictures can be read.
      StorageError: a row or a file cannot be written.
    """
    result = Run() if into is None else into
    per_picture = sum(len(coder.settings) for coder in coders)
    total = len(pictures) * per_picture
    unreadable, sizes = 0, set[tuple[int, ...]]()
    for number, path in enumerate(pictures):
        name, done = path.relative_to(root).as_posix(), number * per_picture
        mark = "" if journal is None else digest(path)
        pixels: np.ndarray | None = None
        for coder in coders:
            settings = {setting.label: setting for setting in coder.settings}
            keys = {label: (name, mark, coder.name, label) for label in settings}
            found: dict[str, Row] = {}
            if journal is not None:
                there = {label: key for label, key in keys.items() if key in journal}
                found = {label: journal.find(key, Row) for label, key in there.items()}
            new = [setting for label, setting in settings.items() if label not in found]
            done += len(coder.settings)
            if new and pixels is None:
                try:
                    pixels = read_image(path).pixels
                except UsageError as error:
                    unreadable += 1
                    if unreadable == len(pictures):
                        raise
                    result.skipped.append(Skipped(name, "", "", str(error)))
                    break
            try:
                while new:
                    assert pixels is not None
                    most = TOGETHER if pixels.shape[0] * pixels.shape[1] <= LARGE_PX else 1
                    files: list[_File] = []
                    for at, setting in enumerate(new[:most], done - len(new)):
                        progress(at, total, f"{name} {coder.name} {setting.label}")
                        try:
                            files.append(_code(pixels, coder, setting))
                        except (UsageError, BitstreamError) as error:
                            skipped = Skipped(name, coder.name, setting.label, str(error))
                            result.skipped.append(skipped)
                    new = new[most:]
                    rows = _rows(functools.partial(_measure, name, pixels, meter), files, sizes)
                    for row, file in zip(rows, files, strict=True):
                        if kept is not None:
                            place = coded_path(kept, name, coder.name, row.setting, coder.suffix)
                            keep(place, file.data)
                        if journal is not None:
                            journal.add(keys[row.setting], row)
                        found[row.setting] = row
            finally:
                result.rows += [found[label] for label in settings if label in found]
    progress(total, total, "done")
    result.skipped.sort(key=lambda skipped: bool(skipped.codec))  # stable: pictures first
    return result


@dataclass(frozen=True, eq=False)
class _File:
    """What a coder made of a picture at a setting."""

    coder: Coder
    setting: Setting
    data: bytes
    decoded: np.ndarray
    encode_seconds: float
    decode_seconds: float


def _code(pixels: np.ndarray, coder: Coder, setting: Setting) -> _File:
    start = time.perf_counter()
    data = coder.encode(pixels, setting)
    encoded = time.perf_counter()
    decoded = coder.decode(data)
    finished = time.perf_counter()
    return _File(coder, setting, data, decoded, encoded - start, finished - encoded)


def _rows(
    measure: Callable[[_File], Row], files: Sequence[_File], sizes: set[tuple[int, ...]]
) -> Iterator[Row]:
    """Measures files of one size two at a time.

    Not while anything is coded: the time of that is taken. The first one of a size is measured
    alone, as it compiles what the others need; `sizes` are those that have been.
    """
    alone = sum(file.decoded.shape not in sizes for file in files[:1])
    yield from map(measure, files[:alone])
    sizes.update(file.decoded.shape for file in files[:alone])
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(measure, files[alone:])


def _measure(name: str, pixels: np.ndarray, meter: Meter, file: _File) -> Row:
    height_px, width_px = pixels.shape[:2]
    return Row(
        picture=name,
        codec=file.coder.name,
        setting=file.setting.label,
        width_px=width_px,
        height_px=height_px,
        size_bytes=len(file.data),
        bpp=8 * len(file.data) / (height_px * width_px),
        figures=meter.whole(pixels, file.decoded),
        model=file.coder.model,
        encode_seconds=file.encode_seconds,
        decode_seconds=file.decode_seconds,
    )
