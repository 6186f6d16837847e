"""`rcodec app`: a local page to play with."""

from __future__ import annotations

import argparse
import sys

from rcodec_jax.cli import arguments


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "app",
        help="open a local web page to try the codec",
        description="Opens a local web page where you drop a photo, paint the important region, "
        "choose a file size and compare. Needs Gradio: pip install 'rcodec-jax[app]'. Ctrl-C stops "
        "it.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on. Only this machine can reach the default; any other address "
        "is open without a password (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=arguments.whole(1, 65535, "a port in 1..65535"),
        metavar="N",
        help="port to listen on (default: the first free port from 7860)",
    )
    parser.add_argument(
        "--max-mb",
        type=arguments.above_zero("a number of megabytes above 0"),
        default=50.0,
        metavar="N",
        help="maximum size of an upload in megabytes (default: 50)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=arguments.above_zero("a number of megapixels above 0"),
        default=50.0,
        metavar="N",
        help="maximum size of a picture in megapixels (default: 50)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    arguments.add_model_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    import rcodec_jax
    from rcodec_jax.app import serving
    from rcodec_jax.cli import heatmap

    serving.serve(
        lambda: rcodec_jax.load(args.model),
        heatmap.draw,
        host=args.host,
        port=args.port,
        max_bytes=int(args.max_mb * 1e6),
        max_pixels=max(1, int(args.max_megapixels * 1e6)),
        model=args.model,
        browser=not args.no_browser,
        ready=lambda address: print(
            f"rcodec: {address} (Ctrl-C stops it)", file=sys.stdout, flush=True
        ),
    )
    return 0
