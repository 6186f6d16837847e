"""`rcodec freeze`: a training run, or a folder of weights, becomes a bundle."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "freeze",
        help="make a bundle from a training run or from weights",
        description="Converts a checkpoint, or weights, into a bundle for encode and decode.",
    )
    parser.add_argument("source", metavar="SOURCE", help="folder of a training run or of weights")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="bundle folder to write")
    parser.add_argument(
        "--step",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        metavar="N",
        help="checkpoint of the run to use (default: the latest)",
    )
    parser.add_argument(
        "--card",
        metavar="JSON",
        help="JSON file, an object, with further entries for the model card",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=16,
        help="bits per weight of the large kernels in the float networks; 8 halves the size "
        "(default: 16)",
    )
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if not Path(args.source).is_dir():
        raise UsageError(
            f"{args.source}: expected the folder of a run or of weights, "
            f"got {'a file' if Path(args.source).exists() else 'no such folder'}"
        )
    folder = files.check_folder(args.out, force=args.force, source=args.source)
    card = None if args.card is None else _read_card(args.card)

    from rcodec_jax.model.freezing import freeze
    from rcodec_jax.model.rateloss import MAX_SHARE

    start = time.perf_counter()
    losses = freeze(args.source, args.out, step=args.step, card=card, bits=args.bits)
    shares = {node: loss.share for node, loss in losses.items()}
    most = max(shares.values())
    sizes = files.sizes(folder)
    figures = {
        "source": args.source,
        "bundle": args.out,
        "files": sizes,
        "bytes": sum(sizes.values()),
        "rate_loss": shares,
        "seconds": time.perf_counter() - start,
    }
    output.report(
        figures,
        f"{args.out}: {figures['bytes'] / 2**20:.2f} MiB in {output.counted(len(sizes), 'file')}, "
        f"integer arithmetic costs up to {100 * most:.3f} % of the rate, "
        f"{figures['seconds']:.1f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    if not most <= MAX_SHARE:  # also where it is no number
        output.message(
            "warning",
            f"{args.out}: expected integer arithmetic to cost at most {100 * MAX_SHARE:g} % of the "
            f"rate, got {100 * most:.2f} %: activation ranges may be far too wide or too narrow",
        )
    return 0


def _read_card(path: str) -> dict[str, Any]:
    data = files.read_input(path, expected="a JSON object")
    try:
        card = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{path}: expected a JSON object, got: {error}") from error
    if not isinstance(card, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(card).__name__}")
    return card
