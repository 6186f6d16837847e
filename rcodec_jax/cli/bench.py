"""`rcodec bench`: measures this release on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from typing import TYPE_CHECKING

from rcodec_jax.cli import arguments, bench_data, bench_train, bench_unet, level_map, output

if TYPE_CHECKING:
    import numpy as np

    from rcodec_jax.bench.codec import Row


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "bench", help="measure speed and memory", description="Measures speed and memory."
    )
    benches = parser.add_subparsers(
        title="benchmarks", metavar="BENCHMARK", required=True, parser_class=arguments.Parser
    )
    codec = benches.add_parser(
        "codec",
        help="encode and decode, beside JPEG and WebP",
        description="Times encode and decode at 768x512: warm calls in one process, and whole "
        "commands (the second run of each) with their peak memory.",
    )
    codec.add_argument(
        "--picture",
        metavar="PICTURE",
        help="picture to use, cut and scaled to 768x512 (default: a synthetic one)",
    )
    codec.add_argument(
        "--bpp",
        type=arguments.above_zero("a number of bits per pixel above 0"),
        default=0.2,
        metavar="R",
        help="size of the files in bits per pixel (default: %(default)s)",
    )
    codec.add_argument(
        "--steps",
        type=arguments.whole(1, 50, "a whole number in 1..50"),
        default=4,
        metavar="N",
        help="denoising steps (default: %(default)s)",
    )
    codec.add_argument(
        "--repeats",
        type=arguments.whole(1, 1000, "a whole number of at least 1"),
        default=3,
        metavar="N",
        help="timed calls, of which the median counts (default: %(default)s)",
    )
    codec.add_argument("--no-commands", action="store_true", help="leave out the command-line runs")
    arguments.add_model_option(codec)
    arguments.add_json_option(codec)
    arguments.add_run_options(codec)
    codec.set_defaults(run=run_codec, uses_jax=True)
    coder = benches.add_parser(
        "coder",
        help="the entropy coder, beside constriction's and CompressAI's",
        description="Times the entropy coder from symbols to bytes and back, beside those of "
        "constriction and CompressAI where they are installed, on the same symbols with the same "
        "integer tables. CPU time of one thread. Counted is the whole way from symbols and numbers "
        "of tables in raster order to bytes and back. constriction takes one table per call, so "
        "its time includes sorting by table, but for 'sorted before', which leaves that out.",
    )
    coder.add_argument(
        "--max-symbols",
        type=arguments.whole(1000, None, "a whole number of at least 1000"),
        default=1_000_000,
        metavar="N",
        help="largest number of symbols, of 1k to 10M (default: %(default)s)",
    )
    coder.add_argument(
        "--node",
        type=arguments.whole(0, 1023, "a whole number in 0..1023"),
        default=600,
        metavar="N",
        help="node the symbols are quantised at, 0 finest (default: %(default)s, about .1 bpp)",
    )
    arguments.add_model_option(coder)
    arguments.add_json_option(coder)
    arguments.add_run_options(coder, jax=False)
    coder.set_defaults(run=run_coder, uses_jax=False)
    bench_data.add_parser(benches)
    bench_train.add_parser(benches)
    bench_unet.add_parser(benches)
    level_map.add_parser(benches)


def run_codec(args: argparse.Namespace) -> int:
    """Runs `rcodec bench codec`."""
    pixels = _picture(args.picture)

    import rcodec_jax
    from rcodec_jax.bench import codec as bench

    options: list[str] = []
    for name in ("model", "threads", "device"):
        if getattr(args, name) is not None:
            options += [f"--{name}", str(getattr(args, name))]
    with output.Progress("bench") as progress:
        rows = bench.run(
            rcodec_jax.load(args.model),
            pixels,
            bpp=args.bpp,
            steps=args.steps,
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
        "machine": bench.machine(),
        "picture": args.picture or "synthetic",
        "rows": [_finite(dataclasses.asdict(row)) for row in rows],
    }
    output.report(figures, _in_words(rows, bench.machine()), as_json=args.json, stream=sys.stdout)
    return 0


def run_coder(args: argparse.Namespace) -> int:
    """Runs `rcodec bench coder`."""
    from rcodec_jax.bench import coder, coderpeers
    from rcodec_jax.codec.bundle import load_integers, shipped_bundle

    part = load_integers(args.model or shipped_bundle())
    missing = coderpeers.missing()
    output.notes(f"{name} is not installed, so it is left out" for name in missing)
    with output.Progress("bench") as progress:
        rows = coder.run(
            part, max_symbols=args.max_symbols, node=args.node, progress=progress.update
        )
    figures = {
        "model": part.digest.hex(),
        "node": args.node,
        "missing": missing,
        "rows": [{**dataclasses.asdict(row), "over_bytes": row.over_bytes} for row in rows],
    }
    text = output.table(
        ("symbols", "coder", "bytes", "over ideal", "%", "encode Msym/s", "decode Msym/s"),
        [
            (
                f"{row.symbols:,}",
                row.name,
                f"{row.size_bytes:,}",
                f"{row.over_bytes:+.1f}",
                f"{100 * row.over_bytes / row.ideal_bytes:.3f}",
                f"{row.encode_rate / 1e6:.2f}",
                f"{row.decode_rate / 1e6:.2f}",
            )
            for row in rows
        ],
    )
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
    from rcodec_jax.data.images import read_image

    picture = Image.fromarray(read_image(path).pixels)
    return np.asarray(ImageOps.fit(picture, (bench.WIDTH_PX, bench.HEIGHT_PX)))


def _finite(figures: dict[str, object]) -> dict[str, object]:
    """JSON knows no infinity: the PSNR of a lossless copy becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in figures.items()
    }


def _in_words(rows: list[Row], machine: str) -> str:
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
                shown(row.command_encode_s, ".2f"),
                shown(row.command_decode_s, ".2f"),
                shown(_larger(row.peak_encode_mib, row.peak_decode_mib), ".0f"),
            )
            for row in rows
        ],
    )
    return f"{text}\n{machine}"


def _larger(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)
