"""Region-of-interest protocol: a uniform file against a file with the region favoured, equal bytes.

For every picture with a mask whose object covers a fair share of it, the uniform file is made near
the target rate; the region file may then spend at most the bytes of that one. Both come from the
same model and are decoded alike.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.data import read_image, read_mask
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import CodecLike
from rcodec_jax.evaluate.journal import Journal, digest, keep
from rcodec_jax.evaluate.meter import Meter, RegionQuality
from rcodec_jax.evaluate.panel import roi_panel
from rcodec_jax.evaluate.run import MASK_ENDINGS, coded_path, list_pictures
from rcodec_jax.levels import DEFAULT_STRENGTH
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.importance import OBJECT_COVERAGE

BYTES_TOLERANCE = 0.02
MIN_INTERIOR_PX = 256
"""Fewer interior pixels than this make no ratio: their error is noise."""


@dataclass(frozen=True)
class MaskedPicture:
    """A picture and its mask file; `labels` says its values are object numbers."""

    name: str
    image: Path
    mask: Path
    labels: bool


@dataclass(frozen=True)
class RoiRow:
    """One of the two files of a picture: `kind` is "uniform" or "roi"."""

    picture: str
    kind: str
    coverage: float
    size_bytes: int
    bpp: float
    bytes_ratio: float
    """Bytes of the region file over those of the uniform file (the same in both rows)."""
    psnr_db: float
    lpips: float | None
    roi_psnr_db: float
    background_psnr_db: float
    roi_lpips: float | None
    roi_lpips_composite: float | None
    band_mse: float | None
    interior_mse: float | None
    band_ratio: float | None
    """MSE of region pixels within 16 px of its border over the MSE further inside, on 0..255."""
    model: str = ""
    """Which model made it, in words."""
    roi_ssimulacra2: float | None = None
    """Of the decoded region pasted into the original."""


@dataclass
class RoiRun:
    """Rows in pairs (uniform, roi), and pictures left out with the reason."""

    rows: list[RoiRow] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class RoiSummary:
    """Means over pictures; gains are roi minus uniform (LPIPS: negative is better)."""

    pictures: int
    mean_bpp: float
    worst_bytes_ratio: float
    """The ratio furthest from 1."""
    equal_bytes: bool
    """Every pair within 2 %."""
    roi_psnr_gain_db: float
    background_psnr_gain_db: float
    roi_lpips_gain: float | None
    roi_lpips_composite_gain: float | None
    band_pictures: int
    band_ratio_uniform: float | None
    """Geometric mean, as are the next two, over pictures with enough interior in both files."""
    band_ratio_roi: float | None
    band_quotient: float | None
    """Band ratio of the region file over that of the uniform file; a seam pushes it above 1."""
    band_quotient_pooled: float | None
    """The same from band and interior MSE, each averaged over the pictures first."""
    roi_ssimulacra2_gain: float | None = None


def find_masked(
    folder: str | Path, *, limit: int | None = None, out: str | Path | None = None
) -> list[MaskedPicture]:
    """Pictures of `folder` with a mask beside them: `NAME_inst.png` (labels) or `NAME_mask.png`.

    Nothing below `out` is one. Raises UsageError if there is none.
    """
    folder = Path(folder)
    found = []
    for image in list_pictures(folder, out=out):
        for ending in MASK_ENDINGS:
            mask = image.with_name(f"{image.stem}{ending}.png")
            if mask.is_file():
                name = image.relative_to(folder).as_posix()
                found.append(MaskedPicture(name, image, mask, ending == "_inst"))
                break
    if not found:
        raise UsageError(f"no pictures with NAME_inst.png or NAME_mask.png beside them in {folder}")
    return found[:limit]


def run_roi(
    codec: CodecLike,
    pictures: Iterable[MaskedPicture],
    meter: Meter,
    *,
    target_bpp: float,
    roi_id: int = 1,
    roi_strength: float = DEFAULT_STRENGTH,
    steps: int | None = None,
    trajectory: str = "proportional",
    encoding: Mapping[str, Any] | None = None,
    model: str = "",
    panels: Path | None = None,
    kept: Path | None = None,
    journal: Journal | None = None,
    into: RoiRun | None = None,
    progress: Progress = no_progress,
) -> RoiRun:
    """Runs the protocol.

    Args:
      target_bpp: rate of the uniform file, not exceeded.
      roi_id: object number in label masks.
      encoding: further options of `encode`, such as its effort.
      model: what the rows call the model.
      panels: folder for side-by-side pictures (original, mask, uniform, region), None for none.
      kept: folder for the coded files, None to keep none.
      journal: gets the rows of each picture; what it has already is not measured again.
      into: filled as the run goes on, so that its rows are there if something stops it.

    Raises:
      StorageError: a row or a picture cannot be written.
    """
    result = RoiRun() if into is None else into
    pictures = list(pictures)
    for i, item in enumerate(pictures):
        progress(i, len(pictures), item.name)
        keys = [
            (item.name, "" if journal is None else digest(item.image, item.mask), kind)
            for kind in ("uniform", "roi")
        ]
        if journal is not None and all(key in journal for key in keys):
            result.rows += [journal.find(key, RoiRow) for key in keys]
            continue
        try:
            original = read_image(item.image).pixels
            mask = read_mask(item.mask, original.shape[:2], roi_id if item.labels else None)
            share = float(np.mean(mask))
            if not OBJECT_COVERAGE[0] <= share <= OBJECT_COVERAGE[1]:
                raise UsageError(f"the object covers {100 * share:.1f} %")
            pair = _encode_pair(
                codec, original, mask, target_bpp, roi_strength, dict(encoding or {})
            )
        except UsageError as error:
            result.skipped.append((item.name, str(error)))
            continue
        decoded = [codec.decode(data, steps=steps, trajectory=trajectory) for data in pair]
        ratio = len(pair[1]) / len(pair[0])
        rows = [
            make_row(
                item.name, kind, meter, original, picture, mask, len(data), share, ratio, model
            )
            for kind, data, picture in zip(("uniform", "roi"), pair, decoded, strict=True)
        ]
        if panels is not None:
            name = item.name.replace("/", "_").rsplit(".", 1)[0]
            keep(panels / f"{name}.png", roi_panel(original, mask, *decoded))
        if kept is not None:
            for kind, data in zip(("uniform", "roi"), pair, strict=True):
                keep(coded_path(kept, item.name, "rcodec", kind, ".rdc"), data)
        if journal is not None:
            for key, row in zip(keys, rows, strict=True):
                journal.add(key, row)
        result.rows += rows
    progress(len(pictures), len(pictures), "done")
    return result


def _encode_pair(
    codec: CodecLike,
    original: np.ndarray,
    mask: np.ndarray,
    target_bpp: float,
    strength: float,
    encoding: dict[str, Any],
) -> tuple[bytes, bytes]:
    """Uniform and region file of one resolution, the second never larger than the first."""
    encoding = {"resampling": 1} | encoding

    def region_file(size_bytes: int) -> bytes:
        return codec.encode(
            original, importance=mask, size_bytes=size_bytes, roi_strength=strength, **encoding
        )

    uniform = codec.encode(original, bpp=target_bpp, **encoding)
    favoured = region_file(len(uniform))
    if len(favoured) < (1 - BYTES_TOLERANCE) * len(uniform):
        # The rate search stopped short: ask the uniform file to come down to the same bytes.
        smaller = codec.encode(original, size_bytes=max(len(favoured), 1), **encoding)
        if abs(len(smaller) - len(favoured)) < len(uniform) - len(favoured):
            uniform = smaller
            if len(favoured) > len(uniform):
                favoured = region_file(len(uniform))
    return uniform, favoured


def make_row(
    name: str,
    kind: str,
    meter: Meter,
    original: np.ndarray,
    decoded: np.ndarray,
    mask: np.ndarray,
    size_bytes: int,
    coverage: float,
    bytes_ratio: float,
    model: str,
) -> RoiRow:
    """Measures one file: `decoded` against `original`, uint8 [H, W, 3]; `mask` [H, W] in 0..1."""
    whole = meter.whole(original, decoded)
    psnr_db = whole["psnr_db"]
    assert psnr_db is not None  # it needs neither weights nor a size
    region: RegionQuality = meter.region(original, decoded, mask)
    band = region.band
    is_enough = band.band_px > 0 and band.interior_px >= MIN_INTERIOR_PX
    return RoiRow(
        picture=name,
        kind=kind,
        coverage=coverage,
        size_bytes=size_bytes,
        bpp=8 * size_bytes / (original.shape[0] * original.shape[1]),
        bytes_ratio=bytes_ratio,
        psnr_db=psnr_db,
        lpips=whole["lpips"],
        roi_psnr_db=region.roi_psnr_db,
        background_psnr_db=region.background_psnr_db,
        roi_lpips=region.roi_lpips,
        roi_lpips_composite=region.roi_lpips_composite,
        roi_ssimulacra2=region.roi_ssimulacra2,
        band_mse=band.band_error / (3 * band.band_px) if is_enough else None,
        interior_mse=band.interior_error / (3 * band.interior_px) if is_enough else None,
        band_ratio=band.ratio if is_enough else None,
        model=model,
    )


def summarise_roi(rows: Sequence[RoiRow]) -> RoiSummary:
    """Means of the protocol's figures. Raises UsageError if no picture passed its conditions."""
    uniform = [row for row in rows if row.kind == "uniform"]
    favoured = [row for row in rows if row.kind == "roi"]
    if not uniform or [r.picture for r in uniform] != [r.picture for r in favoured]:
        raise UsageError("no pairs of files: no mask with an object of the asked size")
    pairs = list(zip(uniform, favoured, strict=True))

    def gain(value: Callable[[RoiRow], float | None]) -> float | None:
        changes = []
        for u, f in pairs:
            before, after = value(u), value(f)
            if before is None or after is None:
                return None
            changes.append(after - before)
        return statistics.fmean(changes)

    banded = [(u, f) for u, f in pairs if _is_ratio(u.band_ratio) and _is_ratio(f.band_ratio)]
    ratio_uniform, ratio_roi = _geometric_mean(0, banded), _geometric_mean(1, banded)
    sums = [
        [sum(getattr(row, name) or 0.0 for row in side) for name in ("band_mse", "interior_mse")]
        for side in zip(*banded, strict=True)
    ]
    pooled = None
    if sums and all(value > 0 for side in sums for value in side):
        pooled = (sums[1][0] / sums[1][1]) / (sums[0][0] / sums[0][1])
    worst = max((u.bytes_ratio for u in uniform), key=lambda ratio: abs(ratio - 1))
    return RoiSummary(
        pictures=len(pairs),
        mean_bpp=statistics.fmean(row.bpp for row in favoured),
        worst_bytes_ratio=worst,
        equal_bytes=abs(worst - 1) <= BYTES_TOLERANCE,
        roi_psnr_gain_db=gain(lambda row: row.roi_psnr_db) or 0.0,
        background_psnr_gain_db=gain(lambda row: row.background_psnr_db) or 0.0,
        roi_lpips_gain=gain(lambda row: row.roi_lpips),
        roi_lpips_composite_gain=gain(lambda row: row.roi_lpips_composite),
        roi_ssimulacra2_gain=gain(lambda row: row.roi_ssimulacra2),
        band_pictures=len(banded),
        band_ratio_uniform=ratio_uniform,
        band_ratio_roi=ratio_roi,
        band_quotient=ratio_roi / ratio_uniform if ratio_uniform and ratio_roi else None,
        band_quotient_pooled=pooled,
    )


def _geometric_mean(side: int, banded: Sequence[tuple[RoiRow, RoiRow]]) -> float | None:
    ratios = [float(pair[side].band_ratio or 0.0) for pair in banded]
    return statistics.geometric_mean(ratios) if ratios else None


def _is_ratio(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
