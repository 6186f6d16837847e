"""`rcodec eval`: rate and quality over a folder of pictures, beside JPEG and WebP."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError

MASKS_RATE_BPP = 0.15


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "eval",
        help="measure rate and quality",
        description="Measures rate, PSNR, MS-SSIM and LPIPS of rcodec, JPEG and WebP on the same "
        "pictures, every byte of real files counted; writes CSV, JSON and plots.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of pictures")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--rates",
        type=arguments.rates,
        metavar="R,R,...",
        help="rates in bits per pixel (default: several from .08 to .35; with --masks "
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
        "--lpips", metavar="FOLDER", help="folder of LPIPS weights (default: leave LPIPS out)"
    )
    parser.add_argument(
        "--lpips-net", choices=("alex", "squeeze"), default="alex", help="default: %(default)s"
    )
    _add_masks_options(parser)
    arguments.add_steps_options(parser)
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def _add_choice_options(parser: argparse.ArgumentParser) -> None:
    count = arguments.whole(1, None, "a whole number of at least 1")
    parser.add_argument(
        "--peers", default="jpeg,webp", metavar="NAME,...", help="default: %(default)s; or none"
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
        help="0: no difference, 1: the whole difference (default: 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    _check(args)
    files.check_folder(args.out, force=args.force)

    import rcodec_jax
    from rcodec_jax.evaluate import command

    codec = rcodec_jax.load(args.model)
    with output.Progress("eval") as progress:
        common = {
            "steps": args.steps,
            "trajectory": args.trajectory,
            "lpips_dir": args.lpips,
            "lpips_net": args.lpips_net,
            "limit": args.limit,
            "card": codec.card,
            "progress": progress.update,
            # The report is on standard output; beside JSON its words would only be in the way.
            "say": functools.partial(_say, progress, sys.stderr if args.json else sys.stdout),
        }
        if args.masks:
            content = command.evaluate_roi(
                codec, args.folder, args.out, **common, **_masks_options(args)
            )
        else:
            content = command.evaluate_folder(
                codec, args.folder, args.out, **common, **_rates_options(args)
            )
    if args.json:
        print(output.to_json(content))
    return 0


def _say(progress: output.Progress, stream: Any, line: str) -> None:
    progress.clear()
    print(line, file=stream, flush=True)


def _check(args: argparse.Namespace) -> None:
    for option, value in (("FOLDER", args.folder), ("--lpips", args.lpips)):
        if value is not None and not Path(value).is_dir():
            raise UsageError(f"{option}: expected a folder, got {value!r}")
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
    return {
        "target_bpp": args.rates[0] if args.rates else MASKS_RATE_BPP,
        "roi_id": 1 if args.roi_id is None else args.roi_id,
        "roi_strength": 1.0 if args.roi_strength is None else args.roi_strength,
    }


def _rates_options(args: argparse.Namespace) -> dict[str, Any]:
    names = [name.strip() for name in args.peers.split(",") if name.strip()]
    options: dict[str, Any] = {
        "peer_names": [] if names == ["none"] else names,
        "every": args.every,
    }
    if args.rates:
        options["rates_bpp"] = args.rates
    if args.qualities:
        options["qualities"] = args.qualities
    return options
