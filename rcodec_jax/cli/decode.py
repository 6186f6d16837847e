"""`rcodec decode`: a file becomes a picture again."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, batch, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.codec import Codec
    from rcodec_jax.progress import Progress


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    from rcodec_jax.model.ends import BALANCED

    parser = subparsers.add_parser(
        "decode",
        help="decode a file into a picture, or many",
        description="Decodes files into pictures. The extension of OUTPUT sets the format.",
    )
    batch.add_inputs(parser, metavar="FILE")
    parser.add_argument(
        "--format",
        type=lambda extension: extension.lower().removeprefix("."),
        metavar="FORMAT",
        help="format where no extension sets it (with --out, on standard output, or for an OUTPUT "
        "without extension): png, jpg, webp, avif, tif, bmp or ppm (default for --out and standard "
        "output: png)",
    )
    arguments.add_steps_options(parser)
    parser.add_argument(
        "--realism",
        type=arguments.number(0, 1, "a number in 0..1"),
        default=BALANCED,
        metavar="R",
        help="0..1, from the smallest error to the most realistic detail, part of which is "
        "generated (default: %(default)s)",
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
    if not batch.set_one(args, metavar="FILE"):
        return _run_many(args)
    from rcodec_jax.data.pictures.writing import image_format

    # Before the work: an extension that cannot be written should not cost a decode.
    piped, target = args.output == files.PIPE, Path(args.output)
    nameless = piped or not files.is_regular(target)  # also a device
    if args.format and target.suffix and not nameless:
        raise UsageError(f"--format: not valid for {target}, whose extension sets the format")
    picture_format = _of_option(args) if nameless or args.format else image_format(target)
    files.check_output(args.output, force=args.force, inputs=(args.input,))
    data = files.read_input(args.input, expected="an rcodec file")

    import rcodec_jax

    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    with files.named(args.input), output.Progress("decode") as progress:
        figures = _decode(args, codec, data, picture_format, progress.update)
    if args.json or not piped:
        stream = sys.stderr if piped else sys.stdout
        output.report(figures, _in_words(figures), as_json=args.json, stream=stream)
    return 0


def _run_many(args: argparse.Namespace) -> int:
    picture_format = _of_option(args)
    extension = f".{args.format or 'png'}"
    jobs = batch.jobs(args.paths, args.out, extensions=batch.CODED, extension=extension)

    import rcodec_jax
    from rcodec_jax.codec.many import FirstAlone, file_programs
    from rcodec_jax.progress import no_progress

    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    first_alone = FirstAlone()

    def work(job: batch.Job) -> dict[str, Any]:
        one = argparse.Namespace(**vars(args) | {"input": job.source, "output": job.target})
        data = files.read_input(job.source, expected="an rcodec file")
        with first_alone(file_programs(data)):
            figures = _decode(one, codec, data, picture_format, no_progress)
        return figures | {"input_bytes": len(data)}

    def totals(made: Sequence[dict[str, Any]]) -> str:
        pixels = sum(figures["width_px"] * figures["height_px"] for figures in made)
        read = sum(figures["input_bytes"] for figures in made)
        return f"{pixels / 1e6:.1f} megapixels from {output.size_in_words(read)}"

    return batch.run(args, jobs, work, label="decode", in_words=_in_words, totals=totals)


def _of_option(args: argparse.Namespace) -> str:
    """The format that --format names, PNG where it is not given."""
    from rcodec_jax.data.pictures.writing import image_format

    try:
        return image_format(None, args.format or None)
    except UsageError as error:
        raise UsageError(f"--format: {error}") from None


def _decode(
    args: argparse.Namespace, codec: Codec, data: bytes, picture_format: str, progress: Progress
) -> dict[str, Any]:
    """Decodes a file that has been read, writes its picture and gives its figures."""
    from rcodec_jax.data.pictures.writing import write_image
    from rcodec_jax.entropy import Limits

    limits = Limits() if args.max_pixels is None else Limits(max_pixels=args.max_pixels)
    steps = codec.bundle.config.steps if args.steps is None else args.steps
    start = time.perf_counter()
    pixels = codec.decode(
        data,
        steps=steps,
        trajectory=args.trajectory,
        realism=args.realism,
        limits=limits,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    buffer = io.BytesIO()
    metadata = codec.metadata(data, limits=limits)
    write_image(buffer, pixels, format=picture_format, marked=True, metadata=metadata)
    files.write_output(args.output, buffer.getvalue())
    height, width = pixels.shape[:2]
    return {
        "input": args.input,
        "output": args.output,
        "width_px": width,
        "height_px": height,
        "steps": steps,
        "trajectory": args.trajectory,
        "realism": args.realism,
        "seconds": seconds,
    }


def _in_words(figures: dict[str, Any]) -> str:
    return (
        f"{figures['output']}: {figures['width_px']}x{figures['height_px']}, "
        f"{figures['seconds']:.2f} s"
    )
