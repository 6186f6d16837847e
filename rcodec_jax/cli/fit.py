"""`rcodec fit`: fits the entropy coder's tables of a bundle to what its encoder writes."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.cli.sample import add_options, draw_crops

SIDE_PX = 512


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "fit",
        help="fit a bundle's entropy tables to pictures",
        description="Encodes pictures at random rates and replaces the theoretical entropy tables "
        "of a bundle, and its centroids if it has any, by measured ones. This lowers the rate "
        "considerably. The networks stay the same. Files of the old bundle still need its integer "
        "part.",
    )
    add_options(parser, to="fit the tables to")
    parser.add_argument(
        "--pictures",
        type=arguments.whole(1, None, "a whole number of at least 1"),
        default=64,
        metavar="N",
        help=f"number of crops to encode in each round, up to {SIDE_PX} pixels a side "
        "(default: %(default)s)",
    )
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    folder = files.check_folder(args.out, force=args.force, source=args.bundle)

    from rcodec_jax.codec.tablefit import fit_tables
    from rcodec_jax.model.bundle import load_bundle
    from rcodec_jax.model.freezing import save_changed
    from rcodec_jax.model.unfreezing import unfreeze

    bundle = load_bundle(args.bundle)
    entropy = unfreeze(args.bundle, bundle)
    pictures = draw_crops(args.data, side=128, most=SIDE_PX, count=args.pictures, seed=args.seed)
    start = time.perf_counter()
    with output.Progress("fit") as progress:
        part, rates = fit_tables(bundle, pictures, seed=args.seed, progress=progress.update)
    figures = {"pictures": len(pictures), "bpp_before": rates[0], "bpp_after": rates[-1]}
    card = bundle.card | {"tables": figures}
    save_changed(folder, dataclasses.replace(bundle, integers=part, card=card), entropy)
    seconds = time.perf_counter() - start
    output.report(
        {"bundle": args.out, "seconds": seconds} | figures,
        f"{args.out}: tables fitted to {output.counted(len(pictures), 'picture')}, "
        f"{rates[0]:.4f} -> {rates[-1]:.4f} bits per pixel on these, {seconds:.0f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return 0
