"""`rcodec encode`: a picture becomes a small file."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, batch, files, output
from rcodec_jax.errors import UsageError
from rcodec_jax.files import PICTURES

if TYPE_CHECKING:
    import numpy as np

    from rcodec_jax.codec import Codec
    from rcodec_jax.data.pictures.images import Picture
    from rcodec_jax.progress import Progress


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "encode",
        help="encode a picture, or many",
        description="Encodes pictures into files, with more bits for the regions that matter.",
    )
    batch.add_inputs(parser, metavar="PICTURE")
    arguments.add_rate_options(parser)
    arguments.add_effort_options(parser)
    arguments.add_resampling_option(parser)
    arguments.add_region_options(parser)
    arguments.add_picture_options(parser)
    parser.add_argument(
        "--keep-metadata",
        action="store_true",
        help="keep the EXIF date taken, copyright and artist",
    )
    arguments.add_model_option(parser)
    arguments.add_dtype_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    _check_region_options(args)
    if not batch.set_one(args, metavar="PICTURE"):
        return _run_many(args)
    files.check_output(
        args.output, force=args.force, inputs=(args.input, *([args.roi] if args.roi else []))
    )
    if Path(args.output).suffix.lower() in PICTURES:
        raise UsageError(
            f"{args.output}: expected the name of a coded file, such as photo.rdc, got that of a "
            "picture"
        )
    picture = _read(args)
    notes = list(picture.notes)
    importance = importance_of(args, picture.pixels, notes)

    import rcodec_jax

    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    with output.Progress("encode") as progress:
        figures = _encode(args, codec, picture, importance, notes, progress.update)
    if not args.json:
        output.notes(figures["notes"])
    piped = args.output == files.PIPE
    if args.json or not piped:
        stream = sys.stderr if piped else sys.stdout
        output.report(figures, _in_words(figures), as_json=args.json, stream=stream)
    return 0


def _run_many(args: argparse.Namespace) -> int:
    jobs = batch.jobs(args.paths, args.out, extensions=PICTURES, extension=".rdc")

    import rcodec_jax
    from rcodec_jax.codec.many import FirstAlone, programs_of
    from rcodec_jax.progress import no_progress

    codec = rcodec_jax.load(args.model, dtype=args.dtype)
    first_alone = FirstAlone()

    def work(job: batch.Job) -> dict[str, Any]:
        one = argparse.Namespace(**vars(args) | {"input": job.source, "output": job.target})
        one.roi = _mask_of(args.roi, job.name)
        picture = _read(one)
        notes = list(picture.notes)
        importance = importance_of(one, picture.pixels, notes)
        with first_alone(programs_of(*picture.pixels.shape[:2])):
            figures = _encode(one, codec, picture, importance, notes, no_progress)
        return figures | {"input_bytes": os.path.getsize(job.source)}

    def totals(made: Sequence[dict[str, Any]]) -> str:
        sums = (sum(figures[name] for figures in made) for name in ("input_bytes", "bytes"))
        return batch.saved_in_words(*sums)

    return batch.run(args, jobs, work, label="encode", in_words=_in_words, totals=totals)


def _mask_of(roi: str | None, name: str) -> str | None:
    """The mask of one of many pictures: from a folder, that of its name, whatever its extension.

    Raises:
      UsageError: the folder has none.
    """
    if roi is None or not os.path.isdir(roi):
        return roi
    place = Path(roi) / name
    for path in sorted(place.parent.glob("*")):
        if path.stem == place.stem and path.suffix.lower() in PICTURES:
            return str(path)
    raise UsageError(f"expected a mask {place.with_suffix('.png')} (or another format), got none")


def _read(args: argparse.Namespace) -> Picture:
    from rcodec_jax.data.pictures.colour import colour_of
    from rcodec_jax.data.pictures.images import read_image

    source: Any = args.input
    if source == files.PIPE:
        source = io.BytesIO(files.read_input(files.PIPE, expected="a picture"))
        source.name = "standard input"
    try:
        background = colour_of(args.background)
    except UsageError as error:
        raise UsageError(f"--background: {error}") from None
    return read_image(
        source,
        background=background,
        allow_truncated=args.allow_truncated,
    )


def _encode(
    args: argparse.Namespace,
    codec: Codec,
    picture: Picture,
    importance: np.ndarray | None,
    notes: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """Encodes a picture that has been read, writes its file and gives its figures."""
    start = time.perf_counter()
    result = codec.encode_detailed(
        picture.pixels,
        importance=importance,
        quality=args.quality,
        bpp=args.bpp,
        size_bytes=args.size_bytes,
        **({} if args.roi_strength is None else {"roi_strength": args.roi_strength}),
        effort=args.effort,
        tune=args.tune,
        resampling=args.resampling,
        metadata=picture.metadata if args.keep_metadata else {},
        progress=progress,
    )
    seconds = time.perf_counter() - start
    files.write_output(args.output, result.data)
    height, width = picture.pixels.shape[:2]
    return {
        "input": args.input,
        "output": args.output,
        "width_px": width,
        "height_px": height,
        "bytes": len(result.data),
        "bpp": len(result.data) * 8 / (width * height),
        "resampling": result.header.resampling,
        "base_node": int(result.base_node),
        "seconds": seconds,
        "notes": [*notes, *result.notes],
    }


def importance_of(
    args: argparse.Namespace, pixels: np.ndarray, notes: list[str]
) -> np.ndarray | None:
    """The importance map that the options ask for, several sources joined by their maximum.

    Args:
      args: options of `arguments.add_region_options`.
      pixels: the picture, uint8 [H,W,3].
      notes: what was assumed about a mask is added here.

    Returns:
      float32 [H,W] in 0..1, None where no option asks for a region or nothing was found.
    """
    if not _has_region(args):
        return None
    import numpy as np

    from rcodec_jax.data.pictures.masks import read_mask
    from rcodec_jax.data.pictures.writing import write_image
    from rcodec_jax.regions import importance
    from rcodec_jax.regions.sources import faces, importance_by_name

    height, width = pixels.shape[:2]
    sources = []
    if args.roi:
        shape, cut = (height, width), args.allow_truncated
        sources.append(read_mask(args.roi, shape, args.roi_id, notes, allow_truncated=cut))
    if args.boxes:
        sources.append(importance.from_boxes(args.boxes, height, width))
    if args.gaze:
        x, y = args.gaze
        sources.append(importance.from_gaze(x, y, height, width))
    if args.faces:
        boxes = faces.find(pixels)
        notes.append(f"faces: {len(boxes) or 'none'} found")
        sources.append(faces.around(boxes, height, width))
    if args.saliency:
        sources.append(importance_by_name(["saliency"], pixels))
    if args.importance:
        sources.append(importance_by_name(args.importance, pixels))
    joined = importance.combine(*sources)
    if not joined.any():
        unwritten = " and no map is written" if args.show_importance else ""
        notes.append(f"no important region was found, so none is favoured{unwritten}")
        return None
    if args.show_importance:
        write_image(args.show_importance, np.round(joined * 255).astype(np.uint8), "PNG")
        notes.append(f"importance map written to {args.show_importance}")
    return joined


def _has_region(args: argparse.Namespace) -> bool:
    given = args.roi, args.boxes, args.gaze, args.faces, args.saliency, args.importance
    return any(given)


def _check_region_options(args: argparse.Namespace) -> None:
    if args.roi_id is not None and not args.roi:
        raise UsageError("--roi-id: only valid with --roi MASK")
    for option in ("roi_strength", "show_importance"):
        if getattr(args, option) is not None and not _has_region(args):
            raise UsageError(
                f"--{option.replace('_', '-')}: only valid with a region (--roi, --box, --gaze, "
                "--faces, --saliency or --importance)"
            )
    if args.show_importance is not None:
        if args.out is not None:
            raise UsageError("--show-importance: expected a single picture, got --out")
        if not args.show_importance.lower().endswith(".png"):
            raise UsageError(
                "--show-importance: expected a file name with extension .png, got "
                f"{args.show_importance!r}"
            )
        if os.path.realpath(args.show_importance) == os.path.realpath(args.paths[-1]):
            raise UsageError(
                f"{args.paths[-1]}: is the output, expected another file for --show-importance"
            )
        others = (*args.paths, *([args.roi] if args.roi else ()))
        files.check_output(args.show_importance, force=args.force, inputs=others)
    if args.roi == files.PIPE:
        raise UsageError(
            "--roi: expected the path of a mask, got - (only the picture can be piped)"
        )


def _in_words(figures: dict[str, Any]) -> str:
    return (
        f"{figures['output']}: {figures['bytes']} bytes, {figures['bpp']:.4f} bpp, "
        f"{figures['width_px']}x{figures['height_px']}, {figures['seconds']:.2f} s"
    )
