"""`rcodec bench sizes`: commands on small and large pictures, beside AVIF and JPEG XL."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from rcodec_jax.cli import arguments, environment, output


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    parser = benches.add_parser(
        "sizes",
        help="commands on small and large pictures, compared with AVIF and JPEG XL",
        description="Times complete commands, from PNG and to PNG, on pictures of several sizes, "
        "and measures their peak memory. AVIF and JPEG XL (with pillow-jxl-plugin) run with their "
        "default settings on all cores.",
    )
    parser.add_argument(
        "--picture",
        metavar="PICTURE",
        help="picture to tile, mirrored, into larger ones (default: a synthetic one of 768x512)",
    )
    parser.add_argument(
        "--megapixels",
        type=arguments.number(0.001, 268, "a number of megapixels in .001..268"),
        nargs="+",
        default=[1, 6, 24, 100],
        metavar="N",
        help="picture sizes in megapixels (default: 1 6 24 100)",
    )
    parser.add_argument(
        "--bpp",
        type=arguments.above_zero("a number of bits per pixel above 0"),
        default=0.1,
        metavar="R",
        help="size of the rcodec files in bits per pixel (default: %(default)s)",
    )
    arguments.add_effort_options(parser, default=1)
    arguments.add_resampling_option(parser)
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_run_options(parser, jax=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    from rcodec_jax.bench import sizes
    from rcodec_jax.bench.machine import machine
    from rcodec_jax.bench.pictures import synthetic
    from rcodec_jax.data.pictures.images import read_image
    from rcodec_jax.evaluate.peers import make_peers

    peers, missing = make_peers(list(sizes.PEERS))
    output.notes(missing)
    pixels = read_image(args.picture).pixels if args.picture else synthetic(512, 768)
    with output.Progress("bench") as progress:
        rows, failed = sizes.run(
            pixels,
            tuple(args.megapixels),
            bpp=args.bpp,
            peers=[peer.name for peer in peers],
            encoder_options=arguments.given(args, "effort", "tune", "resampling"),
            options=arguments.given(args, "model", "threads"),
            progress=progress.update,
        )
    figures = {
        "bpp": args.bpp,
        "effort": args.effort,
        "model": args.model or "shipped",
        "threads": args.threads or environment.usable_cores(),
        "machine": machine(),
        "picture": args.picture or "synthetic",
        "failed": failed,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    text = output.table(
        ("megapixels", "codec", "bpp", "encode s", "CPU s", "MiB", "decode s", "CPU s", "MiB"),
        [
            (
                f"{row.megapixels:.3g}",
                row.name,
                f"{row.bpp:.3f}",
                *(
                    value
                    for command in (row.encode, row.decode)
                    for value in (
                        f"{command.seconds:.1f}",
                        f"{command.cpu_s:.1f}",
                        f"{command.peak_mib:.0f}",
                    )
                ),
            )
            for row in rows
        ],
    )
    text = "\n".join((text, *failed, f"rcodec at effort {args.effort}; {machine()}"))
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 1 if failed else 0
