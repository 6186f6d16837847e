"""`rcodec eval`: rate and quality over a folder of pictures, beside JPEG and WebP."""

from __future__ import annotations

import argparse
from pathlib import Path

from rcodec_jax.cli import arguments, files
from rcodec_jax.errors import UsageError

DEFAULT_RATES = (0.08, 0.12, 0.18, 0.25, 0.35)


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "eval",
        help="measure rate and quality",
        description="Measures rate, PSNR, MS-SSIM and LPIPS of rcodec, JPEG and WebP on the same "
        "pictures; writes CSV, JSON and plots.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of pictures")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--rates",
        type=arguments.rates,
        default=DEFAULT_RATES,
        metavar="R,R,...",
        help="rates in bits per pixel (default: "
        f"{','.join(f'{rate:g}' for rate in DEFAULT_RATES)})",
    )
    parser.add_argument(
        "--masks",
        action="store_true",
        help="compare files with and without a region of interest, from the masks in the folder",
    )
    parser.add_argument(
        "--lpips", metavar="FOLDER", help="folder of LPIPS weights (default: leave LPIPS out)"
    )
    arguments.add_steps_options(parser)
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    for option, value in (("FOLDER", args.folder), ("--lpips", args.lpips)):
        if value is not None and not Path(value).is_dir():
            raise UsageError(f"{option}: expected a folder, got {value!r}")
    files.check_folder(args.out, force=args.force)
    raise UsageError("rcodec eval: not there yet")
