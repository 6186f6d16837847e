"""The two evaluations a user runs: rate against quality over a folder, and regions of interest.

Each writes its folder of results and returns what it wrote, as plain JSON values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate import curves, peers, report, roi
from rcodec_jax.evaluate.coders import CodecLike, Coder, RcodecCoder
from rcodec_jax.evaluate.meter import Meter
from rcodec_jax.evaluate.run import Progress, list_pictures, run
from rcodec_jax.metrics.perceptual import Lpips
from rcodec_jax.regions.importance import OBJECT_COVERAGE

DEFAULT_RATES_BPP = (0.08, 0.11, 0.15, 0.2, 0.25, 0.3, 0.35)
Say = Callable[[str], None]


def evaluate_folder(
    codec: CodecLike | None,
    folder: str | Path,
    out: str | Path,
    *,
    rates_bpp: Sequence[float] = DEFAULT_RATES_BPP,
    qualities: Sequence[float] = (),
    steps: int | None = None,
    trajectory: str = "proportional",
    peer_names: Sequence[str] = ("jpeg", "webp"),
    lpips_dir: str | Path | None = None,
    lpips_net: str = "alex",
    every: int = 1,
    limit: int | None = None,
    card: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Rate, PSNR, MS-SSIM and LPIPS of rcodec and its peers on the same pictures.

    Writes `rows.csv` (every file), `curves.csv`, `report.json` and `curves.png` into `out`.

    Args:
      codec: None measures the peers alone.
      folder: pictures, searched recursively.
      rates_bpp: targets of rcodec, never exceeded; ignored where `qualities` is given.
      lpips_dir: folder with `lpips_<net>.npz`; None leaves LPIPS out, with one line.
      every, limit: take each `every`-th picture, at most `limit`.
      card: the model's card, kept in the report.
      say: takes each line meant for the user.

    Returns:
      The content of report.json.
    """
    folder, out = Path(folder), Path(out)
    pictures = list_pictures(folder, every=every, limit=limit)
    meter = _meter(lpips_dir, lpips_net, say)
    coders: list[Coder] = list(peers.make_peers(peer_names))
    if codec is not None:
        rates = () if qualities else tuple(rates_bpp)
        own = RcodecCoder(
            codec, rates_bpp=rates, qualities=qualities, steps=steps, trajectory=trajectory
        )
        coders.insert(0, own)
    if not coders:
        raise UsageError("nothing to measure: no model and no peers")
    _make_folder(out)
    measured = run(pictures, coders, meter, root=folder, progress=progress)
    means = curves.mean_curves(measured.rows)
    # Peers against each other only where there is nothing else to compare.
    differences = curves.bd_rates(measured.rows, tests=None if codec is None else ["rcodec"])
    content = report.to_plain(
        {
            "pictures": [path.relative_to(folder).as_posix() for path in pictures],
            "lpips": meter.lpips_net,
            "steps": steps,
            "trajectory": trajectory,
            "model": dict(card or {}),
            "curves": means,
            "bd_rates": differences,
            "skipped": measured.skipped,
        }
    )
    report.write_csv(out / "rows.csv", measured.rows)
    report.write_csv(out / "curves.csv", [point for line in means.values() for point in line])
    report.write_json(out / "report.json", content)
    if not report.plot_curves(out / "curves.png", means, lpips_net=meter.lpips_net):
        say("plots left out: matplotlib is not installed")
    say(report.curve_table(means))
    if differences:
        say("")
        say("Rate difference at equal quality (negative: fewer bytes than the other codec)")
        say(report.bd_table(differences))
    if measured.skipped:
        first = measured.skipped[0]
        say(
            f"{len(measured.skipped)} files could not be made, for instance {first.picture} "
            f"{first.codec} {first.setting}: {first.reason}"
        )
    return content


def evaluate_roi(
    codec: CodecLike,
    folder: str | Path,
    out: str | Path,
    *,
    target_bpp: float = 0.15,
    roi_id: int = 1,
    roi_strength: float = 1.0,
    steps: int | None = None,
    trajectory: str = "proportional",
    lpips_dir: str | Path | None = None,
    lpips_net: str = "alex",
    limit: int | None = None,
    card: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Region files against uniform files of equal bytes (see `evaluate.roi`).

    Writes `roi.csv`, `roi.json` and side-by-side pictures under `panels/` into `out`.

    Returns:
      The content of roi.json.
    """
    out = Path(out)
    pictures = roi.find_masked(folder, limit=limit)
    meter = _meter(lpips_dir, lpips_net, say)
    _make_folder(out)
    measured = roi.run_roi(
        codec,
        pictures,
        meter,
        target_bpp=target_bpp,
        roi_id=roi_id,
        roi_strength=roi_strength,
        steps=steps,
        trajectory=trajectory,
        panels=out / "panels",
        progress=progress,
    )
    summary = roi.summarise_roi(measured.rows)
    content = report.to_plain(
        {
            "target_bpp": target_bpp,
            "coverage": OBJECT_COVERAGE,
            "roi_strength": roi_strength,
            "lpips": meter.lpips_net,
            "steps": steps,
            "trajectory": trajectory,
            "model": dict(card or {}),
            "summary": summary,
            "rows": measured.rows,
            "skipped": measured.skipped,
        }
    )
    report.write_csv(out / "roi.csv", measured.rows)
    report.write_json(out / "roi.json", content)
    for line in roi.describe(summary):
        say(line)
    if measured.skipped:
        say(f"{len(measured.skipped)} pictures left out (object too small or large, or no file)")
    return content


def _meter(lpips_dir: str | Path | None, net: str, say: Say) -> Meter:
    if lpips_dir is None:
        say("LPIPS left out: no weights given (--lpips DIR)")
        return Meter()
    return Meter(Lpips.load(lpips_dir, net))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: expected a folder to write to: {error.strerror}") from error
