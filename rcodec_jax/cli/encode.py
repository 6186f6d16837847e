"""`rcodec encode`: a picture becomes a small file."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    import numpy as np


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "encode",
        help="make a file of a picture",
        description="Encodes a picture, with more bits where it matters.",
    )
    parser.add_argument("input", metavar="PICTURE", help="picture to read, - for standard input")
    parser.add_argument("output", metavar="FILE", help="file to write, - for standard output")
    arguments.add_rate_options(parser)
    arguments.add_effort_options(parser)
    arguments.add_region_options(parser)
    arguments.add_picture_options(parser)
    arguments.add_model_option(parser)
    arguments.add_dtype_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    _check_region_options(args)
    files.check_output(
        args.output, force=args.force, inputs=(args.input, *([args.roi] if args.roi else []))
    )

    from rcodec_jax.data.colour import colour_of
    from rcodec_jax.data.images import read_image

    picture = read_image(
        sys.stdin.buffer if args.input == files.PIPE else args.input,
        background=colour_of(args.background),
        allow_truncated=args.allow_truncated,
    )
    notes = list(picture.notes)
    importance = importance_of(args, picture.pixels, notes)

    import rcodec_jax

    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    start = time.perf_counter()
    with output.Progress("encode") as progress:
        result = codec.encode_detailed(
            picture.pixels,
            importance=importance,
            quality=args.quality,
            bpp=args.bpp,
            size_bytes=args.size_bytes,
            **({} if args.roi_strength is None else {"roi_strength": args.roi_strength}),
            effort=args.effort,
            tune=args.tune,
            progress=progress.update,
        )
    seconds = time.perf_counter() - start
    files.write_output(args.output, result.data)
    height, width = picture.pixels.shape[:2]
    figures = {
        "input": args.input,
        "output": args.output,
        "width_px": width,
        "height_px": height,
        "bytes": len(result.data),
        "bpp": len(result.data) * 8 / (width * height),
        "base_node": int(result.base_node),
        "seconds": seconds,
        "notes": [*notes, *result.notes],
    }
    _report(figures, as_json=args.json, to_stderr=args.output == files.PIPE)
    return 0


def importance_of(
    args: argparse.Namespace, pixels: np.ndarray, notes: list[str]
) -> np.ndarray | None:
    """The importance map that the options ask for, several sources joined by their maximum.

    Args:
      args: options of `arguments.add_region_options`.
      pixels: the picture, uint8 [H,W,3].
      notes: what was assumed about a mask is added here.

    Returns:
      float32 [H,W] in 0..1, None where no option asks for a region.
    """
    if not _has_region(args):
        return None
    from rcodec_jax.data.masks import read_mask
    from rcodec_jax.regions import importance

    height, width = pixels.shape[:2]
    sources = []
    if args.roi:
        sources.append(read_mask(args.roi, (height, width), args.roi_id, notes))
    if args.boxes:
        sources.append(importance.from_boxes(args.boxes, height, width))
    if args.gaze:
        x, y = args.gaze
        sources.append(importance.from_gaze(x, y, height, width))
    if args.saliency:
        sources.append(importance.saliency(pixels))
    return importance.combine(*sources)


def _has_region(args: argparse.Namespace) -> bool:
    return bool(args.roi or args.boxes or args.gaze or args.saliency)


def _check_region_options(args: argparse.Namespace) -> None:
    if args.roi_id is not None and not args.roi:
        raise UsageError("--roi-id: expected --roi MASK with it, got no mask")
    if args.roi_strength is not None and not _has_region(args):
        raise UsageError(
            "--roi-strength: expected a region with it (--roi, --box, --gaze or --saliency), "
            "got none"
        )
    if args.roi == files.PIPE:
        raise UsageError(
            "--roi: expected the path of a mask, got - (only the picture can be piped)"
        )


def _report(figures: dict[str, Any], *, as_json: bool, to_stderr: bool) -> None:
    if not as_json:
        output.notes(figures["notes"])
    text = (
        f"{figures['output']}: {figures['bytes']} bytes, {figures['bpp']:.4f} bpp, "
        f"{figures['width_px']}x{figures['height_px']}, {figures['seconds']:.2f} s"
    )
    stream = sys.stderr if to_stderr else sys.stdout
    if as_json or not to_stderr:
        output.report(figures, text, as_json=as_json, stream=stream)
