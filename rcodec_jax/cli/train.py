"""`rcodec train`: trains a model from a recipe, or goes on where a run was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.config.train import Config

SAVED = 75
"""Exit code after SIGTERM: saved, run me again (EX_TEMPFAIL). What is in `launch/` does."""


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
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a value of the recipe, such as train.steps=200 (repeatable)",
    )
    parser.add_argument(
        "--init-from",
        metavar="FOLDER",
        help="run, weights or bundle whose parameters to start from",
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
        help="print the recipe with its changes and the model's size, do not train",
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
    config = apply_overrides(load_config(args.config, Config), given)
    if args.describe:
        print(output.to_json(_describe(config)))
        return 0
    if not args.workdir:
        raise UsageError("--workdir: expected a folder, got none (see 'rcodec train --help')")
    if not args.data and not config.train.data.sources:
        raise UsageError("--data: expected pictures to train on, got none (see --help)")
    if Path(args.workdir).exists() and not Path(args.workdir).is_dir():
        raise UsageError(f"--workdir: expected a folder, got the file {args.workdir!r}")

    from rcodec_jax.train import run as train

    done = train(config, data=args.data, workdir=args.workdir, allow_changes=args.allowed_changes)
    return SAVED if done < total_steps(config) else 0


def total_steps(config: Config) -> int:
    """Steps of all stages, or fewer where the run is told to stop earlier."""
    steps = sum(stage.steps for stage in config.train.stages)
    return min(steps, config.train.steps or steps)


def _describe(config: Config) -> dict[str, Any]:
    """The recipe with its changes, its length and the parameters of each part of the model."""
    import jax

    from rcodec_jax.codec.networks import Networks, count_parameters
    from rcodec_jax.config import to_dict

    shapes = jax.eval_shape(Networks(config.model).init, jax.random.key(0))
    parameters = count_parameters(shapes)
    return {
        "config": to_dict(config),
        "steps": total_steps(config),
        "parameters": {**parameters, "all": sum(parameters.values())},
    }
