"""Rate-distortion runs: every picture through every coder at every setting, with real files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcodec_jax.data import read_image
from rcodec_jax.data.images import FORMATS
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Coder
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.progress import Progress, no_progress

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
    psnr_db: float
    ms_ssim: float | None
    lpips: float | None
    encode_seconds: float
    decode_seconds: float
    ssimulacra2: float | None = None
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


def list_pictures(folder: str | Path, *, every: int = 1, limit: int | None = None) -> list[Path]:
    """Pictures below `folder`, sorted; masks left out; each `every`-th, at most `limit`.

    Raises UsageError if there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected a folder of pictures, got {folder}")
    if every < 1 or (limit is not None and limit < 1):
        raise UsageError(f"every and limit are at least 1, got {every} and {limit}")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in FORMATS and not path.stem.endswith(MASK_ENDINGS)
    )
    if not found:
        raise UsageError(f"no pictures in {folder} (looked for {' '.join(FORMATS)})")
    return found[::every][:limit]


def run(
    pictures: Sequence[Path],
    coders: Sequence[Coder],
    meter: Meter,
    *,
    root: Path,
    progress: Progress = no_progress,
) -> Run:
    """Encodes, decodes and measures; one picture in memory at a time.

    A coder that raises UsageError for a setting (a rate out of reach) is noted as skipped there; so
    is a picture that cannot be read.

    Args:
      pictures: files to read.
      root: folder the names in the rows are relative to.
      progress: called before each file and once at the end.

    Raises:
      UsageError: none of the pictures can be read.
    """
    result = Run()
    total = len(pictures) * sum(len(coder.settings) for coder in coders)
    done = 0
    unreadable: list[Skipped] = []
    for path in pictures:
        name = path.relative_to(root).as_posix()
        try:
            pixels = read_image(path).pixels
        except UsageError as error:
            if len(unreadable) + 1 == len(pictures):
                raise
            unreadable.append(Skipped(name, "", "", str(error)))
            done += total // len(pictures)
            continue
        height_px, width_px = pixels.shape[:2]
        for coder in coders:
            for setting in coder.settings:
                progress(done, total, f"{name} {coder.name} {setting.label}")
                done += 1
                start = time.perf_counter()
                try:
                    data = coder.encode(pixels, setting)
                except UsageError as error:
                    result.skipped.append(Skipped(name, coder.name, setting.label, str(error)))
                    continue
                encoded = time.perf_counter()
                decoded = coder.decode(data)
                finished = time.perf_counter()
                quality = meter.whole(pixels, decoded)
                result.rows.append(
                    Row(
                        picture=name,
                        codec=coder.name,
                        setting=setting.label,
                        width_px=width_px,
                        height_px=height_px,
                        size_bytes=len(data),
                        bpp=8 * len(data) / (height_px * width_px),
                        psnr_db=quality.psnr_db,
                        ms_ssim=quality.ms_ssim,
                        lpips=quality.lpips,
                        ssimulacra2=quality.ssimulacra2,
                        model=coder.model,
                        encode_seconds=encoded - start,
                        decode_seconds=finished - encoded,
                    )
                )
    progress(total, total, "done")
    result.skipped[:0] = unreadable
    return result
