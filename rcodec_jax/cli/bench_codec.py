"""`rcodec bench codec`: encode and decode, beside JPEG and WebP."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments, output

if TYPE_CHECKING:
    import numpy as np

    from rcodec_jax.bench.codec import Row


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    codec = benches.add_parser(
        "codec",
        help="encode and decode, compared with JPEG and WebP",
        description="Times encode and decode at 768x512: warm calls in one process, then complete "
        "commands, cold and warm, with their CPU time and peak memory.",
    )
    codec.add_argument(
        "--picture",
        metavar="PICTURE",
        help="picture to use, cropped and scaled to 768x512 (default: a synthetic one)",
    )
    codec.add_argument(
        "--bpp",
        type=arguments.above_zero("a number of bits per pixel above 0"),
        default=0.2,
        metavar="R",
        help="file size in bits per pixel (default: %(default)s)",
    )
    codec.add_argument(
        "--steps",
        type=arguments.whole(1, 50, "a whole number in 1..50"),
        default=4,
        metavar="N",
        help="denoising steps (default: %(default)s)",
    )
    arguments.add_effort_options(codec, default=1)
    codec.add_argument(
        "--repeats",
        type=arguments.whole(1, 1000, "a whole number of at least 1"),
        default=3,
        metavar="N",
        help="number of timed calls; the median is reported (default: %(default)s)",
    )
    codec.add_argument("--no-commands", action="store_true", help="skip the command-line runs")
    arguments.add_model_option(codec)
    arguments.add_json_option(codec)
    arguments.add_run_options(codec)
    codec.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    pixels = _picture(args.picture)

    import rcodec_jax
    from rcodec_jax.bench import codec as bench
    from rcodec_jax.bench.machine import machine
    from rcodec_jax.evaluate.origin import model_words

    codec = rcodec_jax.load(args.model)
    options = arguments.given(args, "model", "threads", "device")
    with output.Progress("bench") as progress:
        rows = bench.run(
            codec,
            pixels,
            bpp=args.bpp,
            steps=args.steps,
            effort=args.effort,
            tune=args.tune,
            repeats=args.repeats,
            command_options=None if args.no_commands else tuple(options),
            progress=progress.update,
        )
    figures = {
        "width_px": bench.WIDTH_PX,
        "height_px": bench.HEIGHT_PX,
        "bpp": args.bpp,
        "steps": args.steps,
        "repeats": args.repeats,
        "machine": machine(),
        "model": codec.card,
        "picture": args.picture or "synthetic",
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    text = _in_words(rows, machine(), model_words(codec.card))
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0


def _picture(path: str | None) -> np.ndarray:
    """The picture of the benchmark, uint8 [512,768,3]."""
    import numpy as np
    from PIL import Image, ImageOps

    from rcodec_jax.bench import codec as bench
    from rcodec_jax.bench import pictures

    if path is None:
        return pictures.synthetic(bench.HEIGHT_PX, bench.WIDTH_PX)
    from rcodec_jax.data.pictures.images import read_image

    picture = Image.fromarray(read_image(path).pixels)
    return np.asarray(ImageOps.fit(picture, (bench.WIDTH_PX, bench.HEIGHT_PX)))


def _in_words(rows: list[Row], machine: str, model: str) -> str:
    def shown(value: float | None, pattern: str) -> str:
        return "-" if value is None else format(value, pattern)

    text = output.table(
        (
            "codec",
            "bytes",
            "bpp",
            "PSNR dB",
            "encode s",
            "decode s",
            "command: encode s",
            "decode s",
            "CPU s",
            "peak MiB",
        ),
        [
            (
                row.name,
                str(row.size_bytes),
                f"{row.bpp:.3f}",
                f"{row.psnr_db:.2f}",
                f"{row.encode_s:.3f}",
                f"{row.decode_s:.3f}",
                _twice(row.cold_encode_s, row.command_encode_s),
                _twice(row.cold_decode_s, row.command_decode_s),
                _twice(row.cpu_encode_s, row.cpu_decode_s),
                shown(_larger(row.peak_encode_mib, row.peak_decode_mib), ".0f"),
            )
            for row in rows
        ],
    )
    commands = "commands: cold, warm. CPU s: encode, decode of the warm commands"
    return f"{text}\n{commands}\nmodel: {model}\n{machine}"


def _twice(first: float | None, second: float | None) -> str:
    return "-" if first is None or second is None else f"{first:.2f}, {second:.2f}"


def _larger(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)
