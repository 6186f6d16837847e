"""`rcodec bench level-map`: bytes of level maps."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from rcodec_jax.cli import arguments, output


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    parser = benches.add_parser(
        "level-map",
        help="bytes of typical level maps, compared with PNG, raw packing and an entropy bound",
        description="Codes the level maps of typical regions of a 768x512 picture, and of the "
        "object masks in a folder. The entropy is that of an entry given its four known "
        "neighbours. It uses the statistics of the map itself, which a decoder does not have.",
    )
    parser.add_argument(
        "--masks",
        metavar="FOLDER",
        help="folder of label PNGs; object 1 of each is used unless it is tiny or fills most of it",
    )
    arguments.add_json_option(parser)
    arguments.add_run_options(parser, jax=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    from rcodec_jax.bench import level_map as bench

    rows = bench.run(args.masks)
    figures = {
        "width_px": bench.WIDTH_PX,
        "height_px": bench.HEIGHT_PX,
        "share_of_bpp": bench.FILE_BPP,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    text = output.table(
        ("map", "maps", "levels", "bytes", "PNG", "raw", "entropy", "% of 0.1 bpp", "max"),
        [
            (
                row.name,
                str(row.maps),
                str(row.levels),
                f"{row.coded_bytes:.0f}",
                f"{row.png_bytes:.0f}",
                f"{row.raw_bytes:.0f}",
                f"{row.entropy_bytes:.0f}",
                f"{100 * row.share:.2f}",
                f"{100 * row.share_max:.2f}",
            )
            for row in rows
        ],
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0
