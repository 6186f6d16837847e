"""`rcodec train`: trains a model from a recipe, or goes on where a run was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from rcodec_jax.cli import arguments
from rcodec_jax.errors import UsageError


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Trains a model. The same command run again goes on where it was stopped.",
    )
    parser.add_argument("config", metavar="CONFIG", help="recipe, such as configs/tiny.py")
    parser.add_argument("--data", metavar="FOLDER", help="folder of training pictures")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a value of the recipe, such as train.steps=200 (repeatable)",
    )
    parser.add_argument(
        "--describe", action="store_true", help="print the recipe with its changes, do not train"
    )
    parser.add_argument(
        "--devices",
        type=arguments.whole(1, 4096, "a whole number of at least 1"),
        metavar="N",
        help="split the CPU into N devices, to try a sharded run",
    )
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True, trains=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from rcodec_jax.config import apply_overrides, load_config, to_json

    config = apply_overrides(load_config(args.config), args.overrides)
    if args.describe:
        print(to_json(config))
        return 0
    for option, value in (("--data", args.data), ("--workdir", args.workdir)):
        if not value:
            raise UsageError(f"{option}: expected a folder, got none (see 'rcodec train --help')")
    if not Path(args.data).is_dir():
        raise UsageError(f"--data: expected a folder of pictures, got {args.data!r}")
    if Path(args.workdir).exists() and not Path(args.workdir).is_dir():
        raise UsageError(f"--workdir: expected a folder, got the file {args.workdir!r}")

    import rcodec_jax.train

    rcodec_jax.train.run(config, data=args.data, workdir=args.workdir)
    return 0
