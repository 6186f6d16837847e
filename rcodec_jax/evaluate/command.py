"""The two evaluations a user runs: rate against quality over a folder, and regions of interest.

Each writes its folder of results and returns what it found.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import rcodec_jax
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate import (
    composite,
    folderpage,
    page,
    peers,
    report,
    roi,
    roipage,
    roirivals,
    sets,
    study,
)
from rcodec_jax.evaluate.coders import CodecLike, Coder, RcodecCoder, Rival
from rcodec_jax.evaluate.curves import BdRate, CurvePoint, bd_rates, mean_curves
from rcodec_jax.evaluate.journal import ROI_ROWS, ROWS, Journal
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.evaluate.metric import METRICS
from rcodec_jax.evaluate.origin import circumstances, model_words
from rcodec_jax.evaluate.peers import regions
from rcodec_jax.evaluate.run import Run, Skipped, coded_path, hidden_pictures, list_pictures, run
from rcodec_jax.levels import DEFAULT_STRENGTH
from rcodec_jax.metrics.perceptual import Lpips
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.importance import OBJECT_COVERAGE

FILES = "files"
"""Where the coded files of a run are kept, in the folder that it writes."""

_OPTIONAL = {m.weights: m for m in METRICS.values() if m.weights}
"""By files of weights that may lie beside those of LPIPS, what is measured with them."""

PAGE, STUDY = "report.html", "study.html"
_DIGESTS = ("integer_digest", "float_digest")
DEFAULT_RATES_BPP = (0.08, 0.12, 0.18, 0.26, 0.36)


@dataclass(frozen=True)
class Settings:
    """What both evaluations are told.

    Attributes:
      steps, trajectory: of the decoder.
      lpips_dir: folder with `lpips_<lpips_net>.npz`; None leaves LPIPS out. DISTS and FID/256 are
        measured where `dists.npz` and `inception.npz` are in it, too.
      lpips_net: "alex", "squeeze" or "vgg".
      frechet: whether Frechet distances of the sets are computed, which need LPIPS.
      limit: most pictures.
      effort, tune: of the encoder; None for its own default.
      card: the model's card, kept in the report; rows, tables and legends tell the model by it.
    """

    steps: int | None = None
    trajectory: str = "proportional"
    lpips_dir: str | Path | None = None
    lpips_net: str = "alex"
    frechet: bool = False
    limit: int | None = None
    effort: int | None = None
    tune: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoding(self) -> dict[str, Any]:
        """Options of `encode` that were given."""
        given = {"effort": self.effort, "tune": self.tune}
        return {name: value for name, value in given.items() if value is not None}

    def meter(self, *, regions: bool = False) -> Meter:
        """Computes the figures that weights are given for; of `regions` neither DISTS nor FID."""
        if self.lpips_dir is None:
            return Meter()
        folder = Path(self.lpips_dir)
        networks = {Lpips: Lpips.load(folder, self.lpips_net)}
        for file, metric in _OPTIONAL.items():
            if not regions and (folder / file).is_file():
                networks[metric.network] = metric.network.load(folder)
        return Meter(networks)

    def left_out(self, *, regions: bool = False) -> list[str]:
        """A line on the measures that want weights and have none; no line where all have."""
        optional = {} if regions else _OPTIONAL
        if self.lpips_dir is None:
            names = ", ".join([*(metric.title for metric in optional.values()), "LPIPS"])
            return [f"{names} left out: no weights given (--lpips DIR)"]
        gone = [file for file in optional if not (Path(self.lpips_dir) / file).is_file()]
        names = ", ".join(optional[file].title for file in gone)
        return [f"{names} left out: no {', '.join(gone)} in {self.lpips_dir}"] if gone else []

    def circumstances(self, meter: Meter) -> dict[str, Any]:
        """What a row depends on besides picture, codec and its setting, as JSON values."""
        digests = {key: self.card[key] for key in _DIGESTS if key in self.card}
        return {
            "rcodec": rcodec_jax.__version__,
            "model": model_words(self.card),
            **digests,
            "steps": self.steps,
            "trajectory": self.trajectory,
            "effort": self.effort,
            "tune": self.tune,
            "lpips": meter.lpips_net,
            **{m.name: meter.has(m.network) or None for m in _OPTIONAL.values() if m.measure},
        }

    def described(self, meter: Meter) -> dict[str, Any]:
        """What a report says of them."""
        return {
            "lpips": meter.lpips_net,
            "steps": self.steps,
            "trajectory": self.trajectory,
            "effort": self.effort,
            "tune": self.tune,
            "model": dict(self.card),
            **circumstances(),
        }


@dataclass(frozen=True)
class FolderResult:
    """Rate and quality over a folder.

    Attributes:
      curves: mean curve of each codec.
      bd_rates: rcodec against each peer.
      skipped: files that could not be made.
      notes: lines on what was left out for want of a package.
      plotted: whether there are plots; not without matplotlib.
      content: that of report.json.
    """

    curves: dict[str, list[CurvePoint]]
    bd_rates: list[BdRate]
    skipped: list[Skipped]
    notes: list[str]
    plotted: bool
    content: dict[str, Any]


@dataclass(frozen=True)
class RoiResult:
    """Regions of interest over a folder.

    Attributes:
      summary: means over the pictures.
      gains: the region files against uniform ones and rivals, with intervals.
      notes: lines on what was left out for want of a package.
      skipped: names of pictures left out, and why.
      content: that of roi.json.
    """

    summary: roi.RoiSummary
    gains: list[roirivals.Gain]
    notes: list[str]
    skipped: list[tuple[str, str]]
    content: dict[str, Any]


def evaluate_folder(
    codec: CodecLike,
    folder: str | Path,
    out: str | Path,
    settings: Settings,
    *,
    rates_bpp: Sequence[float] = DEFAULT_RATES_BPP,
    qualities: Sequence[float] = (),
    peer_names: Sequence[str] = ("jpeg", "webp"),
    every: int = 1,
    study_seed: int | None = None,
    anew: bool = False,
    progress: Progress = no_progress,
) -> FolderResult:
    """Rate, PSNR, MS-SSIM, SSIMULACRA 2 and LPIPS of rcodec and its peers on the same pictures.

    Writes `rows.jsonl` (every row as it comes; the same evaluation goes on with them), the coded
    files below `files/`, and at the end `rows.csv`, `curves.csv`, `report.json`, `curves.png` and
    the page `report.html` into `out`. Stopped by Ctrl-C it leaves `rows.csv` with what was
    measured.

    Args:
      folder: pictures, searched recursively.
      rates_bpp: targets of rcodec, never exceeded; ignored where `qualities` is given.
      every: take each `every`-th picture.
      study_seed: write `study.html`, a blind comparison for people (see `evaluate.study`), too.
      anew: measure again what an earlier run left in `out`.
    """
    folder, out = Path(folder), Path(out)
    pictures = list_pictures(folder, every=every, limit=settings.limit, out=out)
    meter = settings.meter()
    own = RcodecCoder(
        codec,
        rates_bpp=() if qualities else rates_bpp,
        qualities=qualities,
        steps=settings.steps,
        trajectory=settings.trajectory,
        encoding=settings.encoding,
        model=model_words(settings.card),
    )
    if study_seed is not None and not page.can_render():
        raise UsageError("a study needs jinja2: pip install 'rcodec-jax[eval]'")
    others, notes = peers.make_peers(peer_names)
    if study_seed is not None and not others:
        raise UsageError("; ".join([study.NO_PAIR, *notes]))
    coders: list[Coder] = [own, *others]
    _make_folder(out)
    measured = Run(skipped=hidden_pictures(folder, out=out))
    journal = Journal(out / ROWS, settings.circumstances(meter), anew=anew)
    try:
        run(
            pictures,
            coders,
            meter,
            root=folder,
            journal=journal,
            kept=out / FILES,
            into=measured,
            progress=progress,
        )
    except KeyboardInterrupt:
        report.write_csv(out / "rows.csv", measured.rows)
        raise
    means = mean_curves(measured.rows)
    for metric in METRICS.values():
        is_wanted = settings.frechet if metric.name == "frechet" else meter.has(metric.network)
        if metric.features is None or not is_wanted:
            continue
        means = sets.with_distance(
            metric.name,
            functools.partial(metric.features, meter.network(metric)),
            means,
            coders,
            list(dict.fromkeys(row.picture for row in measured.rows)),
            root=folder,
            kept=out / FILES,
            journal=journal,
            progress=progress,
        )
    differences = bd_rates(measured.rows, own.name, means)
    names = [path.relative_to(folder).as_posix() for path in pictures]
    unreadable = {skipped.picture for skipped in measured.skipped if not skipped.codec}
    content = report.to_plain(
        {
            "pictures": [name for name in names if name not in unreadable],
            **settings.described(meter),
            "curves": means,
            "bd_rates": differences,
            "skipped": measured.skipped,
            "notes": notes,
        }
    )
    report.write_csv(out / "rows.csv", measured.rows)
    report.write_csv(out / "curves.csv", [point for line in means.values() for point in line])
    report.write_json(out / "report.json", content)
    plotted = report.plot_curves(out / "curves.png", means, lpips_net=meter.lpips_net)
    shown = folderpage.folder_page(
        content, measured, means, differences, coders, root=folder, kept=out / FILES
    )
    if not page.write_page(out / PAGE, shown):
        notes.append(page.MISSING)
    if study_seed is not None:
        asked = study.make_study(
            measured.rows, own, others, root=folder, kept=out / FILES, seed=study_seed
        )
        study.write_study(out / STUDY, asked)
    return FolderResult(means, differences, measured.skipped, notes, plotted, content)


def evaluate_roi(
    codec: CodecLike,
    folder: str | Path,
    out: str | Path,
    settings: Settings,
    *,
    target_bpp: float,
    roi_id: int = 1,
    roi_strength: float = DEFAULT_STRENGTH,
    peer_names: Sequence[str] = (*regions.ENCODERS, composite.NAME),
    anew: bool = False,
    progress: Progress = no_progress,
) -> RoiResult:
    """Region files against uniform files of equal bytes (see `evaluate.roi`), and against peers.

    Writes `roi.jsonl` (the rows of each picture as they come; the same evaluation goes on with
    them), side-by-side pictures under `panels/`, the coded files below `files/`, and at the end
    `roi.csv`, `roi.json` and the page `report.html` into `out`. Stopped by Ctrl-C it leaves
    `roi.csv` with what was measured.

    Args:
      peer_names: what takes the masks, too (see `evaluate.roirivals`).
      anew: measure again what an earlier run left in `out`.
    """
    out = Path(out)

    def read(data: bytes) -> np.ndarray:
        return codec.decode(data, steps=settings.steps, trajectory=settings.trajectory)

    two = composite.Composite(codec, read, settings.encoding)
    encoders, notes = regions.make_encoders(peer_names, {composite.NAME: two})
    pictures = roi.find_masked(folder, limit=settings.limit, out=out)
    meter = settings.meter(regions=True)
    _make_folder(out)
    measured = roi.RoiRun()
    protocol: dict[str, Any] = {
        "target_bpp": target_bpp,
        "roi_id": roi_id,
        "roi_strength": roi_strength,
    }
    circumstances = {**settings.circumstances(meter), **protocol}
    journal = Journal(out / ROI_ROWS, circumstances, anew=anew)
    try:
        roi.run_roi(
            codec,
            pictures,
            meter,
            **protocol,
            steps=settings.steps,
            trajectory=settings.trajectory,
            encoding=settings.encoding,
            model=model_words(settings.card),
            panels=out / "panels",
            kept=out / FILES,
            journal=journal,
            into=measured,
            progress=progress,
        )
        roirivals.run_rivals(
            pictures,
            encoders,
            meter,
            measured,
            roi_id=roi_id,
            kept=out / FILES,
            journal=journal,
            progress=progress,
        )
    except KeyboardInterrupt:
        report.write_csv(out / "roi.csv", measured.rows)
        raise
    if not measured.rows and measured.skipped:
        name, reason = measured.skipped[0]
        raise UsageError(f"no picture could be measured; {name}: {reason}")
    summary = roi.summarise_roi(measured.rows)
    gains = roirivals.gains(measured.rows, [encoder.name for encoder in encoders])
    content = report.to_plain(
        {
            **protocol,
            "coverage": OBJECT_COVERAGE,
            **settings.described(meter),
            "summary": summary,
            "gains": gains,
            "notes": notes,
            "rows": measured.rows,
            "skipped": measured.skipped,
        }
    )
    report.write_csv(out / "roi.csv", measured.rows)
    report.write_json(out / "roi.json", content)

    by_name: dict[str, Rival] = {encoder.name: encoder for encoder in encoders}

    def read_row(row: roi.RoiRow) -> np.ndarray:
        name, _, strength = row.kind.partition(" ")
        if name not in by_name:
            path = coded_path(out / FILES, row.picture, "rcodec", row.kind, ".rdc")
            return read(path.read_bytes())
        path = coded_path(out / FILES, row.picture, name, strength, by_name[name].suffix)
        return by_name[name].decode(path.read_bytes())

    shown = roipage.roi_page(content, measured, gains, pictures, read_row)
    if not page.write_page(out / PAGE, shown):
        notes.append(page.MISSING)
    return RoiResult(summary, gains, notes, measured.skipped, content)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: expected a folder to write to: {error.strerror}") from error
