"""`rcodec train`: trains a model from a recipe, or goes on where a run was stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments, environment, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.config.train import Config

SAVED = 75
"""Exit code after SIGTERM: saved, run me again (EX_TEMPFAIL). All that is in `launch/` does."""


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Trains a model. The same command run again goes on where it was stopped.",
    )
    parser.add_argument("config", metavar="CONFIG", help="recipe, such as configs/tiny.py")
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="pictures to train on: a folder, what 'rcodec data' made, a glob of ArrayRecord files "
        "or the name of a TFDS data set (default: train.data.sources of the recipe)",
    )
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run")
    arguments.add_set_option(parser, what="a value of the recipe", example="train.steps=200")
    parser.add_argument(
        "--init-from",
        metavar="FOLDER",
        help="run, weights or bundle whose parameters to start from",
    )
    parser.add_argument(
        "--resident",
        action="store_true",
        help="keep all pictures decoded on the devices and draw crops there",
    )
    parser.add_argument(
        "--minutes",
        type=arguments.above_zero("a number above 0"),
        metavar="N",
        help="train for so long, whatever the steps of the recipe's stages; the learning rate "
        "follows the time",
    )
    parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="FIELD",
        dest="allowed_changes",
        help="go on with the run in --workdir although this field of the recipe has changed: a "
        "name such as train.clip, a group such as train.stages, or 'data' (repeatable)",
    )
    parser.add_argument(
        "--describe",
        action="store_true",
        help="print parameters, their shardings, bytes and FLOPs, do not train; touches no device",
    )
    parser.add_argument(
        "--mesh",
        type=arguments.mesh,
        metavar="AXIS=SIZE,...",
        help="with --describe: a mesh of any size, such as data=8,fsdp=32 (default: the recipe's, "
        "an axis of -1 counting as 1)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --describe: report the figures as JSON, with the recipe and its changes",
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
    from rcodec_jax.config import apply_overrides, load_config
    from rcodec_jax.config.train import Config

    given = [*args.overrides]
    if args.init_from is not None:
        given.append(f"train.init_from={args.init_from}")
    if args.resident:
        given.append("train.data.resident=true")
    if args.minutes is not None:
        given.append(f"train.max_minutes={args.minutes}")
    config = apply_overrides(load_config(args.config, Config), given)
    if args.describe:
        _describe(config, args.mesh, as_json=args.json)
        return 0
    for option in ("mesh", "json"):
        if getattr(args, option):
            raise UsageError(f"--{option}: expected only with --describe")
    if not args.workdir:
        raise UsageError("--workdir: expected a folder, got none (see 'rcodec train --help')")
    if not args.data and not config.train.data.sources:
        raise UsageError("--data: expected pictures to train on, got none (see --help)")
    if Path(args.workdir).exists() and not Path(args.workdir).is_dir():
        raise UsageError(f"--workdir: expected a folder, got the file {args.workdir!r}")

    from rcodec_jax.train import train

    done = train(config, data=args.data, workdir=args.workdir, allow_changes=args.allowed_changes)
    return 0 if done.finished else SAVED


def _describe(config: Config, mesh: dict[str, int] | None, *, as_json: bool) -> None:
    """Prints the run on a mesh: as a table, or as JSON with the recipe and its changes."""
    environment.set_device("cpu")  # an accelerator that is in use must not be waited for
    from rcodec_jax.cli import description
    from rcodec_jax.config import to_dict
    from rcodec_jax.config.train import MeshConfig
    from rcodec_jax.train.describe import describe

    described = describe(config, None if mesh is None else MeshConfig(**mesh))
    steps = config.train.total_steps
    figures = {"config": to_dict(config), "steps": steps, **description.figures(described)}
    text = description.in_words(described, config.name, steps)
    output.report(figures, text, as_json=as_json, stream=sys.stdout)
