"""`rcodec decode`: a file becomes a picture again."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

from rcodec_jax.cli import arguments, files, output


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "decode", help="make a picture of a file", description="Decodes a file into a picture."
    )
    parser.add_argument("input", metavar="FILE", help="file to read, - for standard input")
    parser.add_argument(
        "output",
        metavar="PICTURE",
        help="picture to write, its ending says the format; - for standard output (PNG)",
    )
    arguments.add_steps_options(parser)
    parser.add_argument(
        "--realism",
        type=arguments.number(0, 1, "a number in 0..1"),
        default=0.0,
        metavar="R",
        help="0..1: from least error to detail that looks real, part of it made up (default: 0)",
    )
    parser.add_argument(
        "--max-pixels",
        type=arguments.whole(1, None, "a whole number of pixels above 0"),
        metavar="N",
        help="refuse files that declare a larger picture (default: 2^28)",
    )
    arguments.add_model_option(parser)
    arguments.add_dtype_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from rcodec_jax.data.images import image_format, write_image

    # Before the work: an ending that cannot be written should not cost a decode.
    piped = args.output == files.PIPE
    picture_format = image_format(None if piped else Path(args.output))
    files.check_output(args.output, force=args.force, inputs=(args.input,))
    data = files.read_input(args.input, expected="an rcodec file")

    import rcodec_jax
    from rcodec_jax.entropy import Limits

    limits = Limits() if args.max_pixels is None else Limits(max_pixels=args.max_pixels)
    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    start = time.perf_counter()
    pixels = codec.decode(
        data, steps=args.steps, trajectory=args.trajectory, realism=args.realism, limits=limits
    )
    seconds = time.perf_counter() - start
    buffer = io.BytesIO()
    write_image(buffer, pixels, format=picture_format)
    files.write_output(args.output, buffer.getvalue())
    height, width = pixels.shape[:2]
    figures = {
        "input": args.input,
        "output": args.output,
        "width_px": width,
        "height_px": height,
        "steps": args.steps,
        "trajectory": args.trajectory,
        "realism": args.realism,
        "seconds": seconds,
    }
    if args.json or not piped:
        output.report(
            figures,
            f"{args.output}: {width}x{height}, {seconds:.2f} s",
            as_json=args.json,
            stream=sys.stderr if piped else sys.stdout,
        )
    return 0
