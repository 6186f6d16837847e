"""`rcodec ablate`: variants of one recipe, trained, measured and set against it in one table."""

from __future__ import annotations

import argparse
import sys

from rcodec_jax.cli import arguments, output
from rcodec_jax.cli.train import SAVED


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "ablate",
        help="train and compare variants of a recipe",
        description="Trains base.py in FOLDER and each ablation beside it, measures rate and PSNR "
        "at fixed nodes, and prints the rate at equal quality with 95 % confidence intervals over "
        "the pictures. Running the same command again continues a stopped run.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="folder of recipes, such as configs/ablations"
    )
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="pictures to train on, as for 'train'"
    )
    parser.add_argument(
        "--pictures", required=True, metavar="FOLDER", help="other pictures to measure on"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="folder for the runs, the results and the table",
    )
    parser.add_argument(
        "--limit",
        type=arguments.whole(2, None, "a whole number of at least 2"),
        default=24,
        metavar="N",
        help="maximum number of pictures to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--crop",
        type=arguments.whole(32, None, "a whole number of at least 32"),
        default=192,
        metavar="PX",
        help="side of the centre crops in pixels, a multiple of 32 (default: %(default)s)",
    )
    arguments.add_set_option(
        parser, what="a value of the base recipe", example="train.stages.0.steps=200"
    )
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True, trains=True, huge_pages=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from rcodec_jax.ablate import table
    from rcodec_jax.ablate.run import ablate

    result = ablate(
        args.folder,
        data=args.data,
        pictures=args.pictures,
        out=args.out,
        count=args.limit,
        crop_px=args.crop,
        overrides=args.overrides,
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(output.table(table.header(), map(table.cells, result.lines), left=2), flush=True)
    return 0 if result.finished else SAVED
