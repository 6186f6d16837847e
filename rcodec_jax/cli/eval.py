"""`rcodec eval`: rate and quality over a folder of pictures, beside other codecs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, eval_study, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rcodec_jax.evaluate.command import FolderResult, RoiResult
    from rcodec_jax.evaluate.curves import BdRate, CurvePoint
    from rcodec_jax.evaluate.roirivals import Gain

MASKS_RATE_BPP = 0.15


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "eval",
        help="measure rate and quality",
        description="Measures rate, PSNR, MS-SSIM, LPIPS and SSIMULACRA 2 of rcodec and its "
        "peers on the same pictures, every byte of real files counted; writes CSV, JSON and plots.",
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="folder of pictures")
    parser.add_argument("--out", metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--rates",
        type=arguments.rates,
        metavar="R,R,...",
        help="rates in bits per pixel (default: several from .08 to .36; with --masks "
        f"{MASKS_RATE_BPP:g})",
    )
    parser.add_argument(
        "--qualities",
        type=arguments.qualities,
        metavar="Q,Q,...",
        help="instead of rates, qualities 0..100, each the same for all pictures, as for the peers",
    )
    _add_choice_options(parser)
    parser.add_argument(
        "--lpips",
        metavar="FOLDER",
        help="folder of LPIPS weights, as 'rcodec import --kind lpips' makes them (default: leave "
        "LPIPS out); with dists.npz or inception.npz in it (--kind dists, inception) DISTS or "
        "FID/256 is measured, too",
    )
    parser.add_argument(
        "--lpips-net",
        choices=("alex", "squeeze", "vgg"),
        default="alex",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--frechet",
        action="store_true",
        help="measure the Frechet distance of LPIPS features on patches of 64 px over all pictures "
        "(no FID of Inception features); needs --lpips",
    )
    _add_masks_options(parser)
    _add_study_options(parser)
    arguments.add_effort_options(parser)
    arguments.add_steps_options(parser)
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="begin again in a folder that holds something (default: go on with an evaluation that "
        "was stopped, and refuse a folder that holds anything else)",
    )
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def _add_choice_options(parser: argparse.ArgumentParser) -> None:
    count = arguments.whole(1, None, "a whole number of at least 1")
    parser.add_argument(
        "--peers",
        metavar="NAME,...",
        help="of jpeg, webp, avif, jxl, jpeg2000, hevc and av1, or none (default: jpeg,webp); with "
        "--masks of x265, svtav1 and composite (default: all); AVIF needs Pillow 11.3, JPEG XL, "
        "HEVC, x265 and svtav1 'rcodec-jax[peers]'; one that is missing is left out, with a line",
    )
    parser.add_argument(
        "--every", type=count, default=1, metavar="N", help="take every N-th picture only"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="take at most N pictures")


def _add_masks_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("regions of interest")
    group.add_argument(
        "--masks",
        action="store_true",
        help="instead, compare files with and without a region of interest at equal bytes; masks "
        "lie beside the pictures as NAME_inst.png (labels) or NAME_mask.png",
    )
    group.add_argument(
        "--roi-id",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        metavar="K",
        help="label of the region in NAME_inst.png (default: 1)",
    )
    group.add_argument(
        "--roi-strength",
        type=arguments.number(0, 1, "a number in 0..1"),
        metavar="S",
        help="as for rcodec encode (default: 0.5)",
    )


def _add_study_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("blind comparison by people")
    group.add_argument(
        "--study",
        action="store_true",
        help="write study.html, too: a page that asks which of two pictures of about equal bytes "
        "is closer to the original, and saves the answers",
    )
    group.add_argument(
        "--study-seed",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        metavar="N",
        help="of the order of its questions (default: 0)",
    )
    group.add_argument(
        "--study-results",
        nargs="+",
        metavar="ANSWERS",
        help="instead of all else, say what saved answers say, one file for each person",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.study_results:
        if args.folder is not None or args.out is not None:
            raise UsageError("--study-results: expected neither FOLDER nor --out with it")
        return eval_study.run(args.study_results, as_json=args.json)
    _check(args)
    from rcodec_jax.evaluate.journal import GO_ON, ROI_ROWS, ROWS

    goes_on = (Path(args.out) / (ROI_ROWS if args.masks else ROWS)).is_file()
    if not goes_on:
        files.check_folder(args.out, force=args.force)

    import rcodec_jax
    from rcodec_jax.evaluate import command
    from rcodec_jax.evaluate.origin import model_words

    codec = rcodec_jax.load(args.model)
    settings = command.Settings(
        steps=args.steps,
        trajectory=args.trajectory,
        lpips_dir=args.lpips,
        lpips_net=args.lpips_net,
        frechet=args.frechet,
        limit=args.limit,
        effort=args.effort,
        tune=args.tune,
        card=codec.card,
    )
    folders = (args.folder, args.out, settings)
    lines = [f"model: {model_words(codec.card)}"]
    lines += settings.left_out(regions=args.masks)
    try:
        with output.Progress("eval") as bar:
            if args.masks:
                regions = command.evaluate_roi(
                    codec, *folders, anew=args.force, progress=bar.update, **_masks_options(args)
                )
                content = regions.content
                lines += _roi_lines(regions)
            else:
                result = command.evaluate_folder(
                    codec, *folders, anew=args.force, progress=bar.update, **_rates_options(args)
                )
                content = result.content
                lines += _folder_lines(result)
    except KeyboardInterrupt:
        output.message("note", f"{args.out}: {GO_ON}")
        raise
    # The report is on standard output; beside JSON its words would only be in the way.
    print("\n".join(lines), file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(output.to_json(content))
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, value in (("FOLDER", args.folder), ("--out", args.out)):
        if value is None:
            raise UsageError(f"{option}: expected a folder, got none")
    if args.study_seed is not None and not args.study:
        raise UsageError("--study-seed: expected --study with it, got none")
    if args.study and (args.masks or args.peers == "none"):
        raise UsageError("--study: expected peers to compare with, and no --masks")
    for option, value in (("FOLDER", args.folder), ("--lpips", args.lpips)):
        if value is not None and not Path(value).is_dir():
            raise UsageError(f"{option}: expected a folder, got {value!r}")
    if args.frechet and (args.lpips is None or args.masks):
        raise UsageError("--frechet: expected --lpips with it, and no --masks")
    if args.qualities and (args.rates or args.masks):
        raise UsageError("--qualities: expected neither --rates nor --masks with it")
    if args.masks:
        if args.rates is not None and len(args.rates) != 1:
            raise UsageError(f"--rates: expected one rate with --masks, got {len(args.rates)}")
        if args.every != 1:
            raise UsageError(f"--every: expected none with --masks, got {args.every}")
        return
    for option, value in (("--roi-id", args.roi_id), ("--roi-strength", args.roi_strength)):
        if value is not None:
            raise UsageError(f"{option}: expected --masks with it, got none")


def _masks_options(args: argparse.Namespace) -> dict[str, Any]:
    given = {} if args.roi_strength is None else {"roi_strength": args.roi_strength}
    return (
        given
        | _peer_options(args)
        | {
            "target_bpp": args.rates[0] if args.rates else MASKS_RATE_BPP,
            "roi_id": 1 if args.roi_id is None else args.roi_id,
        }
    )


def _peer_options(args: argparse.Namespace) -> dict[str, Any]:
    if args.peers is None:
        return {}
    names = [name.strip() for name in args.peers.split(",") if name.strip()]
    return {"peer_names": [] if names == ["none"] else names}


def _rates_options(args: argparse.Namespace) -> dict[str, Any]:
    options = _peer_options(args) | {"every": args.every}
    if args.study:
        options["study_seed"] = args.study_seed or 0
    if args.rates:
        options["rates_bpp"] = args.rates
    if args.qualities:
        options["qualities"] = args.qualities
    return options


def _folder_lines(result: FolderResult) -> list[str]:
    lines = list(result.notes)
    lines += [] if result.plotted else ["plots left out: matplotlib is not installed"]
    lines.append(_curve_table(result.curves))
    if result.bd_rates:
        title = "Rate difference at equal quality (negative: fewer bytes than the other codec)"
        lines += ["", title, _bd_table(result.bd_rates)]
    unreadable = [skipped for skipped in result.skipped if not skipped.codec]
    if unreadable:
        first = unreadable[0]
        lines.append(
            f"{len(unreadable)} pictures could not be read and are left out, for instance "
            f"{first.picture}: {first.reason}"
        )
    refused = [skipped for skipped in result.skipped if skipped.codec]
    if refused:
        first = refused[0]
        lines.append(
            f"{len(refused)} files could not be made, for instance {first.picture} "
            f"{first.codec} {first.setting}: {first.reason}"
        )
    return lines


def _curve_table(curves: Mapping[str, Sequence[CurvePoint]]) -> str:
    from rcodec_jax.evaluate.metric import METRICS

    metrics = METRICS.values()
    headings = [metric.heading or metric.title for metric in metrics]
    header = ("codec", "setting", "bpp", *headings, "enc s", "dec s")
    rows = [
        (
            point.label,
            point.setting,
            f"{point.bpp:.4f}",
            *(_number(point.figures.get(m.name), f".{m.digits}f") for m in metrics),
            f"{point.encode_seconds:.3f}",
            f"{point.decode_seconds:.3f}",
        )
        for points in curves.values()
        for point in points
    ]
    return output.table(header, rows, left=2)


def _bd_table(results: Sequence[BdRate]) -> str:
    from rcodec_jax.evaluate.metric import METRICS

    header = (
        "codec",
        "against",
        "at equal",
        "of means %",
        "95 %",
        "mean of pictures %",
        "95 %",
        "pictures",
    )
    rows = [
        (
            result.test,
            result.anchor,
            METRICS[result.metric].title,
            _number(result.of_means_percent, "+.1f"),
            _interval(result.of_means_interval),
            _number(result.mean_of_pictures_percent, "+.1f"),
            _interval(result.mean_of_pictures_interval),
            str(result.pictures),
        )
        for result in results
    ]
    return output.table(header, rows, left=2)


def _roi_lines(result: RoiResult) -> list[str]:
    summary = result.summary
    equal = "all pairs within" if summary.equal_bytes else "NOT all pairs within"
    lines = [
        f"{summary.pictures} pictures, {summary.mean_bpp:.4f} bpp; bytes of the region file over "
        f"the uniform file at worst {summary.worst_bytes_ratio:.4f} ({equal} 2 %)",
        f"region:     PSNR {summary.roi_psnr_gain_db:+.2f} dB, LPIPS over the mask "
        f"{_number(summary.roi_lpips_gain, '+.4f')}, LPIPS of the composite "
        f"{_number(summary.roi_lpips_composite_gain, '+.4f')}, its SSIMULACRA 2 "
        f"{_number(summary.roi_ssimulacra2_gain, '+.1f')}",
        f"background: PSNR {summary.background_psnr_gain_db:+.2f} dB",
        f"band over interior error ({summary.band_pictures} pictures): uniform "
        f"{_number(summary.band_ratio_uniform, '.3f')}, region "
        f"{_number(summary.band_ratio_roi, '.3f')}, quotient "
        f"{_number(summary.band_quotient, '.3f')} (pooled "
        f"{_number(summary.band_quotient_pooled, '.3f')})",
    ]
    rivals = [gain for gain in result.gains if gain.rival != "uniform"]
    if rivals:
        title = "Region file minus rival at its best strength for each picture, at equal bytes"
        lines += ["", title, _gain_table(rivals)]
    if result.skipped:
        lines.append(
            f"{len(result.skipped)} pictures or files left out (object too small or large, or no "
            "file)"
        )
    return [*result.notes, *lines]


def _gain_table(gains: Sequence[Gain]) -> str:
    header = ("against", "figure", "difference", "95 %", "bytes %", "pictures", "strengths")
    rows = []
    for gain in gains:
        form = "+.4f" if "lpips" in gain.figure else "+.2f" if "psnr" in gain.figure else "+.1f"
        rows.append(
            (
                gain.rival,
                gain.figure,
                format(gain.mean, form),
                _interval(gain.interval, form),
                f"{100 * gain.bytes_ratio:.1f}",
                str(gain.pictures),
                ", ".join(f"{name}: {count}" for name, count in gain.strengths.items()),
            )
        )
    return output.table(header, rows, left=2)


def _interval(value: tuple[float, float] | None, form: str = "+.1f") -> str:
    return "-" if value is None else f"{value[0]:{form}} to {value[1]:{form}}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
