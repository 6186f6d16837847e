"""`rcodec train`: trains a model from a recipe, or continues a stopped run."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments, environment, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.config.train import Config

_WEIGHT = re.compile(r"\d+(\.\d+)?|\.\d+")

SAVED = 75
"""Exit code after SIGTERM: saved, run me again (EX_TEMPFAIL). All that is in `launch/` does."""


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Trains a model. Running the same command again continues a stopped run.",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="recipe: a file such as configs/tiny.py, or the name of a shipped one, such as tiny",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SOURCE[:WEIGHT]",
        help="pictures to train on: a folder, an output of 'rcodec data', a glob of ArrayRecord "
        "files or the name of a TFDS data set (default: train.data.sources of the recipe). If "
        "repeated, pictures are drawn by weight, as in --data A:3 --data B:1",
    )
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--validation",
        metavar="SOURCE_OR_SHARE",
        help="pictures for validation: a source, as for --data, or the share of the training "
        "pictures to hold out, such as 0.02. Every train.validation.every steps, rate, PSNR, LPIPS "
        "and a sheet of pictures are written; the best checkpoint is kept",
    )
    arguments.add_set_option(parser, what="a value of the recipe", example="train.steps=200")
    parser.add_argument(
        "--init-from",
        metavar="FOLDER",
        help="run, weights or bundle with the initial parameters, or 'shipped' for the shipped "
        "model",
    )
    parser.add_argument(
        "--resident",
        action="store_true",
        help="keep all pictures decoded in device memory and draw crops there",
    )
    parser.add_argument(
        "--minutes",
        type=arguments.above_zero("a number above 0"),
        metavar="N",
        help="train for N minutes instead of the steps of the recipe; the learning rate schedule "
        "follows the time",
    )
    parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="FIELD",
        dest="allowed_changes",
        help="continue the run in --workdir although this field of the recipe has changed: a field "
        "such as train.clip, a group such as train.stages, or 'data' (repeatable)",
    )
    parser.add_argument(
        "--describe",
        action="store_true",
        help="print parameters, shardings, memory and FLOPs without training; uses no accelerator",
    )
    parser.add_argument(
        "--mesh",
        type=arguments.mesh,
        metavar="AXIS=SIZE,...",
        help="devices along each axis, such as data=8,fsdp=32, also with slices=N (default: that "
        "of the recipe). With --describe the mesh may have any size, and an axis of -1 counts as 1",
    )
    parser.add_argument(
        "--chip",
        choices=("v5e", "v5p", "v6e", "h100"),
        help="with --describe: estimate the hours of the run on a mesh of these chips (default: on "
        "devices of train.peak_flops, if the recipe sets it)",
    )
    parser.add_argument(
        "--utilisation",
        type=arguments.number(0.001, 1, "a share in .001..1"),
        default=0.4,
        metavar="SHARE",
        help="with --describe: share of peak FLOP/s to assume for the hours (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --describe: print the results as JSON, with the recipe and its changes",
    )
    parser.add_argument(
        "--devices",
        type=arguments.whole(1, 4096, "a whole number of at least 1"),
        metavar="N",
        help="split the CPU into N devices, to try a sharded run",
    )
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True, trains=True, huge_pages=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from rcodec_jax.config import apply_overrides, load_config
    from rcodec_jax.config.train import Config, MeshConfig

    given = [*args.overrides]
    if args.init_from is not None:
        given.append(f"train.init_from={args.init_from}")
    if args.resident:
        given.append("train.data.resident=true")
    if args.validation is not None:
        given.append(f"train.validation.{_validation(args.validation)}")
    if args.minutes is not None:
        given.append(f"train.max_minutes={args.minutes}")
    config = apply_overrides(load_config(args.config, Config), given)
    data, config = _sources(args.data, config)
    if args.describe:
        _describe(config, args)
        return 0
    for option in ("chip", "json"):
        if getattr(args, option):
            raise UsageError(f"--{option}: only valid with --describe")
    if args.mesh is not None:
        train_config = dataclasses.replace(config.train, mesh=MeshConfig(**args.mesh))
        config = dataclasses.replace(config, train=train_config)
    if not args.workdir:
        raise UsageError("--workdir: expected a folder, got none (see 'rcodec train --help')")
    if data is None and not config.train.data.sources:
        raise UsageError(
            "--data: expected pictures to train on, got none (see 'rcodec train --help')"
        )
    if Path(args.workdir).exists() and not Path(args.workdir).is_dir():
        raise UsageError(f"--workdir: expected a folder, got the file {args.workdir!r}")

    from rcodec_jax.train import train

    done = train(config, data=data, workdir=args.workdir, allow_changes=args.allowed_changes)
    return 0 if done.finished else SAVED


def _validation(text: str) -> str:
    """The override that --validation stands for."""
    if Path(text).exists():
        return f"data={text}"
    try:
        share = float(text)
    except ValueError:
        return f"data={text}"
    if not 0 < share < 1:
        raise UsageError(f"--validation: expected a share above 0 and below 1, got {text!r}")
    return f"share={share}"


def _sources(given: list[str], config: Config) -> tuple[str | None, Config]:
    """What --data says: one source as it is, or the mixture of the configuration that it makes."""
    if not given:
        return None, config
    from rcodec_jax.config.train import SourceConfig

    recipe = config.train.data.sources
    sources = tuple(SourceConfig(*_weighted(text)) for text in given)
    if recipe:
        before, now = (
            ", ".join(f"{source.path} ({source.weight:g})" for source in mixture)
            for mixture in (recipe, sources)
        )
        output.message(
            "note", f"--data replaces the sources of the recipe: {now} instead of {before}"
        )
    if len(sources) == 1 and sources[0].path == given[0]:
        return given[0], config
    data = dataclasses.replace(config.train.data, sources=sources)
    return None, dataclasses.replace(config, train=dataclasses.replace(config.train, data=data))


def _weighted(text: str) -> tuple[str, float]:
    """`SOURCE:WEIGHT`; 1 without a weight. "made:100" has none, it is a hundred made pictures."""
    path, colon, weight = text.rpartition(":")
    if not colon or not _WEIGHT.fullmatch(weight) or path == "made" or Path(text).exists():
        return text, 1.0
    if not float(weight) > 0:
        raise UsageError(f"--data: expected a weight above 0, got {text!r}")
    return path, float(weight)


def _describe(config: Config, args: argparse.Namespace) -> None:
    """Prints the run on a mesh: as a table, or as JSON with the recipe and its changes."""
    environment.set_device("cpu")  # an accelerator that is in use must not be waited for
    from rcodec_jax.cli import description
    from rcodec_jax.config import to_dict
    from rcodec_jax.config.train import MeshConfig
    from rcodec_jax.train.plan.describe import describe

    described = describe(config, None if args.mesh is None else MeshConfig(**args.mesh))
    steps, timing = config.train.total_steps, None
    figures = {"config": to_dict(config), "steps": steps, **description.figures(described)}
    if args.chip is not None:
        from rcodec_jax.scale.chips import CHIPS

        chip = CHIPS[args.chip]
        timing = chip.name, chip.peak_flops, args.utilisation
    elif config.train.peak_flops is not None:
        timing = "device", config.train.peak_flops, args.utilisation
    if timing is not None:
        figures |= {"utilisation": args.utilisation, "hours": described.hours(*timing[1:])}
    text = description.in_words(described, config.name, steps, timing)
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
