"""`rcodec demo`: a photo with a face, with and without a region of interest, at equal bytes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

FACE_BOX = (160, 40, 296, 192)
"""The face in scikit-image's picture `astronaut` (512x512, public domain, NASA): x0,y0,x1,y1."""


OWN_FILES = (
    *(f"{name}.png" for name in ("original", "importance", "side-by-side")),
    *(f"{kind}-{name}.png" for kind in ("decoded", "bits") for name in ("region", "uniform")),
    "region.rdc",
    "uniform.rdc",
)
"""What the demo writes: an earlier demo in the same folder is replaced without --force."""


class RoundTrip(NamedTuple):
    """A file, its bits by cell, the picture it became (uint8 [H,W,3]), the seconds of both ways."""

    data: bytes
    cell_bits: np.ndarray
    pixels: np.ndarray
    encode_s: float
    decode_s: float


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="try the codec on a real photo",
        description="Encodes a photo with and without a region of interest at equal file size, "
        "decodes both, prints a table and writes pictures. The default photo comes from "
        "scikit-image, which must be installed.",
    )
    parser.add_argument(
        "--out",
        default="demo",
        metavar="FOLDER",
        help="folder for the pictures (default: %(default)s)",
    )
    parser.add_argument("--picture", metavar="PICTURE", help="photo to use instead; requires --box")
    parser.add_argument(
        "--box",
        type=arguments.box,
        metavar="X0,Y0,X1,Y1",
        help="region of interest in pixels (default: the face in the photo)",
    )
    parser.add_argument(
        "--bpp",
        type=arguments.above_zero("a number of bits per pixel above 0"),
        default=0.2,
        metavar="R",
        help="file size in bits per pixel (default: %(default)s)",
    )
    arguments.add_steps_options(parser)
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.picture and args.box is None:
        raise UsageError("--picture: requires --box X0,Y0,X1,Y1")
    folder = files.check_folder(args.out, force=args.force, own=OWN_FILES)

    import rcodec_jax
    from rcodec_jax.data.pictures.writing import write_image
    from rcodec_jax.regions import importance as regions

    pixels = _photo(args.picture)
    height, width = pixels.shape[:2]
    importance = regions.from_boxes([args.box or FACE_BOX], height, width)
    codec = rcodec_jax.load(args.model)

    region = _round_trip(codec, pixels, args, importance=importance, bpp=args.bpp)
    uniform = _round_trip(codec, pixels, args, size_bytes=len(region.data))
    trips = {"region": region, "uniform": uniform}
    rows = [{"name": name, **_figures(pixels, importance, trip)} for name, trip in trips.items()]
    pictures = _pictures(pixels, importance, trips)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_image(folder / f"{name}.png", picture)
    for name, trip in trips.items():
        files.write_output(str(folder / f"{name}.rdc"), trip.data)
    figures = {
        "width_px": width,
        "height_px": height,
        "box": args.box or FACE_BOX,
        "rows": rows,
        "folder": str(folder),
        "pictures": sorted(pictures),
    }
    output.report(figures, _in_words(rows, folder), as_json=args.json, stream=sys.stdout)
    return 0


def _photo(path: str | None) -> np.ndarray:
    """The picture of the demo, uint8 [H,W,3]."""
    if path is not None:
        from rcodec_jax.data.pictures.images import read_image

        return read_image(path).pixels
    from skimage.data import astronaut

    return astronaut()


def _round_trip(
    codec: Any, pixels: np.ndarray, args: argparse.Namespace, **options: Any
) -> RoundTrip:
    encoding = time.perf_counter()
    encoded = codec.encode_detailed(pixels, resampling=1, **options)
    decoding = time.perf_counter()
    decoded = codec.decode(encoded.data, steps=args.steps, trajectory=args.trajectory)
    seconds = decoding - encoding, time.perf_counter() - decoding
    return RoundTrip(encoded.data, encoded.cell_bits, decoded, *seconds)


def _figures(pixels: np.ndarray, importance: np.ndarray, trip: RoundTrip) -> dict[str, Any]:
    from rcodec_jax.metrics.decibels import psnr_db

    region = importance > 0.5

    def psnr(part: np.ndarray) -> float | None:
        return psnr_db(pixels, trip.pixels, part) if part.any() else None

    return {
        "bytes": len(trip.data),
        "bpp": len(trip.data) * 8 / region.size,
        "psnr_db": psnr_db(pixels, trip.pixels),
        "psnr_region_db": psnr(region),
        "psnr_outside_db": psnr(~region),
        "encode_s": trip.encode_s,
        "decode_s": trip.decode_s,
    }


def _pictures(
    pixels: np.ndarray, importance: np.ndarray, trips: dict[str, RoundTrip]
) -> dict[str, np.ndarray]:
    """Every picture that is written, by name without extension."""
    import numpy as np

    from rcodec_jax.cli import heatmap

    height, width = pixels.shape[:2]
    grey = np.rint(importance * 255).astype(np.uint8)
    pictures = {"original": pixels, "importance": np.repeat(grey[..., None], 3, axis=-1)}
    # The same scale for both maps, else they could not be compared.
    peak = max(float(np.percentile(trip.cell_bits, 99.5)) for trip in trips.values())
    for name, trip in trips.items():
        pictures[f"decoded-{name}"] = trip.pixels
        pictures[f"bits-{name}"] = heatmap.draw(trip.cell_bits, height, width, peak=peak)
    rows = [
        [pictures[first], *(pictures[f"{kind}-{name}"] for kind in ("decoded", "bits"))]
        for first, name in zip(("original", "importance"), trips, strict=True)
    ]
    pictures["side-by-side"] = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return pictures


def _in_words(rows: list[dict[str, Any]], folder: Path) -> str:
    def decibels(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    text = output.table(
        ("file", "bytes", "bpp", "PSNR in region", "outside", "whole", "encode s", "decode s"),
        [
            (
                row["name"],
                str(row["bytes"]),
                f"{row['bpp']:.3f}",
                decibels(row["psnr_region_db"]),
                decibels(row["psnr_outside_db"]),
                decibels(row["psnr_db"]),
                f"{row['encode_s']:.2f}",
                f"{row['decode_s']:.2f}",
            )
            for row in rows
        ],
    )
    return f"{text}\npictures written to {folder} (side-by-side.png shows all)"
