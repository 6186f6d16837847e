"""`rcodec bench train`: the training step against the machine's peaks."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments, output

if TYPE_CHECKING:
    from rcodec_jax.bench.train import Row
    from rcodec_jax.config.train import Config


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    train = benches.add_parser(
        "train",
        help="the training step, compared with the peak speed of the machine",
        description="Times training steps on synthetic pictures, alternating with matrix products "
        "and convolutions at the shapes that run fastest, and compares the FLOP rates.",
    )
    train.add_argument(
        "--model",
        choices=("tiny", "paper/8"),
        action="append",
        help="tiny, or the model of the paper with 1/8 of its channels (repeatable; default: both)",
    )
    train.add_argument(
        "--config",
        metavar="CONFIG",
        help="measure the first stage of this recipe instead, without its LPIPS loss",
    )
    arguments.add_set_option(train, what="a value", example="train.dtype=bfloat16")
    train.add_argument(
        "--steps",
        type=arguments.whole(1, 10_000, "a whole number of at least 1"),
        default=10,
        metavar="N",
        help="number of timed steps; the median is reported (default: %(default)s)",
    )
    arguments.add_json_option(train)
    arguments.add_run_options(train)
    train.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    from rcodec_jax.bench import train as bench
    from rcodec_jax.bench.machine import machine

    with output.Progress("bench") as progress:
        rows = bench.run(_configs(args), steps=args.steps, progress=progress.update)
    figures = {
        "steps": args.steps,
        "set": args.overrides,
        "machine": machine(),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    output.report(figures, f"{_table(rows)}\n{machine()}", as_json=args.json, stream=sys.stdout)
    return 0


def _configs(args: argparse.Namespace) -> dict[str, Config]:
    """The runs to measure, by name."""
    from rcodec_jax.bench.train import MODELS
    from rcodec_jax.config import apply_overrides, load_config
    from rcodec_jax.config.train import Config
    from rcodec_jax.train.plan.describe import without_perceptual

    if args.config is None:
        configs = {name: MODELS[name] for name in dict.fromkeys(args.model or MODELS)}
    else:
        config = load_config(args.config, Config)
        stage, _ = without_perceptual(config.train.stages[0])
        train = dataclasses.replace(config.train, stages=(stage,))
        configs = {config.name: dataclasses.replace(config, train=train)}
    return {name: apply_overrides(config, args.overrides) for name, config in configs.items()}


def _table(rows: list[Row]) -> str:
    return output.table(
        (
            "model",
            "stage",
            "batch",
            "M parameters",
            "compile s",
            "ms/step",
            "images/s",
            "GFLOP/step",
            "GFLOP/s",
            "peak, products / convolutions",
            "of peak",
            "of best (fastest step)",
        ),
        [
            (
                row.model,
                row.kind,
                f"{row.batch_size} x {row.crop_px}px",
                f"{row.parameters / 1e6:.2f}",
                f"{row.compile_s:.1f}",
                f"{1000 * row.step_s:.0f}",
                f"{row.images_per_s:.2f}",
                f"{row.flops.total / 1e9:.1f}",
                f"{row.flops_per_s / 1e9:.0f}",
                f"{row.peaks.matmul_flops / 1e9:.0f} / {row.peaks.conv_flops / 1e9:.0f}",
                f"{row.of_peak:.0%}",
                f"{row.of_best:.0%}",
            )
            for row in rows
        ],
    )
