"""`rcodec app`: a local page to play with."""

from __future__ import annotations

import argparse
import sys

from rcodec_jax.cli import arguments


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "app",
        help="open a local page to play with",
        description="Opens a page on this machine: drop a photo, paint what matters, choose a "
        "size, compare. Needs Gradio: pip install 'rcodec-jax[app]'. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; the default is for this machine alone, and others have no "
        "password (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=arguments.whole(1, 65535, "a port in 1..65535"),
        metavar="N",
        help="(default: the first that is free from 7860)",
    )
    parser.add_argument(
        "--max-mb",
        type=arguments.above_zero("a number of megabytes above 0"),
        default=50.0,
        metavar="N",
        help="refuse larger uploads (default: 50)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=arguments.above_zero("a number of megapixels above 0"),
        default=50.0,
        metavar="N",
        help="refuse larger pictures (default: 50)",
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
            f"rcodec: {address} (Ctrl-C ends it)", file=sys.stdout, flush=True
        ),
    )
    return 0
