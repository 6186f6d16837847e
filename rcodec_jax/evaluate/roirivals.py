"""Other encoders with the same masks at the bytes of the region file (see `evaluate.roi`).

Each gets the mask, as quantiser offsets of its blocks or to cut two files by (`Composite`), at
several strengths, and may spend at most the bytes of the uniform file. For the comparison the
strength that is best for the region is chosen for each picture: by LPIPS of the composite where it
was measured, by the region's PSNR where not. That favours the rival.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcodec_jax.data import read_image, read_mask
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Rival
from rcodec_jax.evaluate.journal import Journal, digest, keep
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.evaluate.roi import MaskedPicture, RoiRow, RoiRun, make_row
from rcodec_jax.evaluate.run import coded_path
from rcodec_jax.metrics.intervals import Interval, bootstrap_mean
from rcodec_jax.progress import Progress, no_progress

GAINS = (
    "roi_psnr_db",
    "background_psnr_db",
    "lpips",
    "roi_lpips",
    "roi_lpips_composite",
    "roi_ssimulacra2",
)
"""Figures that are compared."""


@dataclass(frozen=True)
class Gain:
    """The region file's figure minus the rival's: mean over the pictures and its interval."""

    rival: str
    figure: str
    mean: float
    interval: Interval | None
    """95 % bootstrap interval over the pictures."""
    pictures: int
    bytes_ratio: float
    """Mean of the rival's bytes over those of the uniform file."""
    strengths: dict[str, int]
    """How many pictures each strength was chosen for."""


def kind_of(encoder: str, strength: float) -> str:
    """What the rows call an encoder at a strength, "x265 -0.2"."""
    return f"{encoder} {strength:g}"


def run_rivals(
    pictures: Sequence[MaskedPicture],
    encoders: Sequence[Rival],
    meter: Meter,
    result: RoiRun,
    *,
    roi_id: int = 1,
    journal: Journal | None = None,
    kept: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Adds rows of `encoders` to a run, for the pictures that have a uniform file in it.

    Args:
      result: a run of the protocol; rows and skipped files are added to it.
      journal: gets each row as it comes; what it has already is not measured again.
      kept: folder for the coded files, None to keep none.

    Raises:
      StorageError: a row or a file cannot be written.
    """
    budgets = {row.picture: row for row in result.rows if row.kind == "uniform"}
    tasks = [
        (item, encoder, strength)
        for item in pictures
        if item.name in budgets
        for encoder in encoders
        for strength in encoder.strengths
    ]
    for i, (item, encoder, strength) in enumerate(tasks):
        kind, uniform = kind_of(encoder.name, strength), budgets[item.name]
        progress(i, len(tasks), f"{item.name} {kind}")
        # A budget of other bytes is another file.
        mark = "" if journal is None else digest(item.image, item.mask)
        key = (item.name, mark, kind, str(uniform.size_bytes))
        if journal is not None and key in journal:
            result.rows.append(journal.find(key, RoiRow))
            continue
        try:
            original = read_image(item.image).pixels
            mask = read_mask(item.mask, original.shape[:2], roi_id if item.labels else None)
            data = encoder.fit(original, mask, strength, uniform.size_bytes)
            decoded = encoder.decode(data)
        except UsageError as error:
            result.skipped.append((f"{item.name} {kind}", str(error)))
            continue
        if kept is not None:
            keep(coded_path(kept, item.name, encoder.name, f"{strength:g}", encoder.suffix), data)
        ratio = len(data) / uniform.size_bytes
        share = float(np.mean(mask))
        row = make_row(item.name, kind, meter, original, decoded, mask, len(data), share, ratio, "")
        if journal is not None:
            journal.add(key, row)
        result.rows.append(row)
    progress(len(tasks), len(tasks), "done")


def chosen(rows: Sequence[RoiRow], encoder: str) -> dict[str, RoiRow]:
    """The encoder's best row for each picture."""
    best: dict[str, RoiRow] = {}
    for row in rows:
        if row.kind.split()[0] == encoder and (
            row.picture not in best or _cost(row) < _cost(best[row.picture])
        ):
            best[row.picture] = row
    return best


def gains(rows: Sequence[RoiRow], encoders: Sequence[str]) -> list[Gain]:
    """Differences to each encoder and to the uniform file, over the pictures that both have."""
    ours = {row.picture: row for row in rows if row.kind == "roi"}
    found = []
    for rival in ("uniform", *encoders):
        theirs = chosen(rows, rival)
        names = [name for name in ours if name in theirs]
        if not names:
            continue
        picked = [theirs[name] for name in names]
        kinds = [row.kind.removeprefix(rival).strip() for row in picked]
        for figure in GAINS:
            values = _differences([ours[name] for name in names], picked, figure)
            if values is None:
                continue
            found.append(
                Gain(
                    rival,
                    figure,
                    statistics.fmean(values),
                    bootstrap_mean(values),
                    len(names),
                    statistics.fmean(row.size_bytes / _bytes(rows, row) for row in picked),
                    {kind: kinds.count(kind) for kind in sorted(set(kinds)) if kind},
                )
            )
    return found


def _cost(row: RoiRow) -> float:
    return -row.roi_psnr_db if row.roi_lpips_composite is None else row.roi_lpips_composite


def _bytes(rows: Sequence[RoiRow], row: RoiRow) -> int:
    pairs = (r for r in rows if r.kind == "uniform" and r.picture == row.picture)
    return next(pairs).size_bytes


def _differences(
    ours: Sequence[RoiRow], theirs: Sequence[RoiRow], figure: str
) -> list[float] | None:
    value: Callable[[RoiRow], float | None] = lambda row: getattr(row, figure)  # noqa: E731
    values = []
    for own, other in zip(ours, theirs, strict=True):
        before, after = value(other), value(own)
        if before is None or after is None:
            return None
        values.append(after - before)
    return values
