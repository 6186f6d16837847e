"""`rcodec info`: what is in a file and where its bits went. Imports no JAX."""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, batch, files, holdings, output
from rcodec_jax.errors import RcodecError, UsageError

if TYPE_CHECKING:
    from rcodec_jax.bitstream import Container, Header
    from rcodec_jax.codec.bitsmap import Bits


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "info",
        help="show the contents of a file, run, checkpoint, bundle, weights or data",
        description="For a file, shows its header, the sizes of its sections and, on request, "
        "where the bits went. For the folder of a run, shows its stages, checkpoints, metrics and "
        "last start. Also describes checkpoints, bundles, weights and packed data.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE",
        help="file to read, - for standard input; several files or a folder give one line per file",
    )
    parser.add_argument(
        "--bits-map",
        metavar="PNG",
        help="write a heat map of where the bits went, - for standard output",
    )
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser, jax=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if len(args.paths) == 1 and holdings.is_holding(args.paths[0]):
        return _run_holding(args)
    if len(args.paths) > 1 or any(os.path.isdir(path) for path in args.paths):
        return _run_many(args)
    (path,) = args.paths
    if args.bits_map:
        if args.bits_map != files.PIPE and not args.bits_map.lower().endswith(".png"):
            raise UsageError(
                f"--bits-map: expected a file name with extension .png, got {args.bits_map!r}"
            )
        files.check_output(args.bits_map, force=args.force, inputs=(path,))
    figures = _figures(path, args)
    piped = args.bits_map == files.PIPE
    output.report(
        figures, _in_words(figures), as_json=args.json, stream=sys.stderr if piped else sys.stdout
    )
    return 0


def _run_holding(args: argparse.Namespace) -> int:
    (path,) = args.paths
    for option in ("model", "bits_map"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise UsageError(f"--{name}: expected an rcodec file, got {path!r}")
    held = holdings.describe(path)
    output.report(held, holdings.in_words(held), as_json=args.json, stream=sys.stdout)
    return 0


def _run_many(args: argparse.Namespace) -> int:
    if args.bits_map:
        raise UsageError("--bits-map: expected a single file, got several or a folder")
    if files.PIPE in args.paths:
        raise UsageError("expected files and folders, or - alone, got - among others")
    made: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    others = ", or a run, checkpoint, bundle, weights or data"
    for job in batch.jobs(args.paths, None, extensions=batch.CODED, extension="", others=others):
        try:
            made.append(_figures(job.source, args))
        except (RcodecError, OSError, MemoryError) as error:
            failed.append({"input": job.source, "error": batch.why(error, job.source)})
    size = sum(figures["bytes"] for figures in made)
    pixels = sum(figures["width_px"] * figures["height_px"] for figures in made)
    lines = [
        (
            figures["input"],
            f"{figures['width_px']}x{figures['height_px']}",
            str(figures["bytes"]),
            f"{figures['bpp']:.4f}",
            str(len(figures["nodes"])),
        )
        for figures in made
    ]
    bpp = f"{8 * size / pixels:.4f}" if pixels else "-"
    lines.append((output.counted(len(made), "file"), "", str(size), bpp, ""))
    output.report(
        {"files": made, "failed": failed, "bytes": size, "pixels": pixels},
        output.table(("file", "pixels", "bytes", "bpp", "levels"), lines),
        as_json=args.json,
        stream=sys.stdout,
    )
    return batch.close_failed(failed, len(made) + len(failed), listed=True)


def _figures(path: str, args: argparse.Namespace) -> dict[str, Any]:
    """What is in a file, with where its bits went if that is asked for, which is drawn too."""
    data = files.read_input(path, expected="an rcodec file")

    from rcodec_jax.bitstream import read_container

    with files.named(path):
        container = read_container(data)
    figures = {"input": path, **_describe(container, len(data))}
    if args.bits_map or args.model:
        from rcodec_jax.codec.bitsmap import bits_of

        with files.named(path):
            bits = bits_of(container, args.model)
        figures["bits"] = _figures_of(bits)
        if args.bits_map:
            _draw(bits, container.header, args.bits_map)
            figures["bits_map"] = args.bits_map
    return figures


def _figures_of(bits: Bits) -> dict[str, float]:
    cells = bits.cells
    return {
        "hyper": bits.hyper,
        "latent": bits.latent,
        "cell_min": float(cells.min()),
        "cell_mean": float(cells.mean()),
        "cell_max": float(cells.max()),
    }


def _draw(bits: Bits, header: Header, path: str) -> None:
    from rcodec_jax.cli import heatmap
    from rcodec_jax.data.pictures.writing import write_image

    buffer = io.BytesIO()
    write_image(buffer, heatmap.draw(bits.cells, header.height_px, header.width_px), format="PNG")
    files.write_output(path, buffer.getvalue())


def _describe(container: Container, size_bytes: int) -> dict[str, Any]:
    """What the file says before its payload, as plain data."""
    import numpy as np

    from rcodec_jax.bitstream import FORMAT_VERSION, MEDIA_TYPE
    from rcodec_jax.codec.symbols import read_levels
    from rcodec_jax.levels import CELL_PX

    header = container.header
    level_map = read_levels(container).level_map
    pixels = header.width_px * header.height_px
    return {
        "media_type": MEDIA_TYPE,
        "format_version": FORMAT_VERSION,
        "bytes": size_bytes,
        "bpp": size_bytes * 8 / pixels,
        "width_px": header.width_px,
        "height_px": header.height_px,
        "pixels": pixels,
        "ratio": 3 * pixels / size_bytes,
        "resampling": header.resampling,
        "cell_px": CELL_PX * header.resampling,
        "cell_rows": level_map.shape[0],
        "cell_columns": level_map.shape[1],
        "levels": header.level_count,
        "nodes": header.nodes.tolist(),
        "cells": np.bincount(level_map.ravel(), minlength=header.level_count).tolist(),
        "integer_digest": header.integer_digest.hex(),
        "float_digest": header.float_digest.hex(),
        "model_ships": _ships(header.integer_digest),
        "metadata": container.metadata,
        "sections": dict(container.sections),
    }


@functools.cache
def _ships(digest: bytes) -> bool:
    """Whether the symbols of files of a model can be read with what ships."""
    from rcodec_jax.model.bundle import find_stored_integers

    return find_stored_integers(digest) is not None


def _in_words(figures: dict[str, Any]) -> str:
    nodes, cells = figures["nodes"], figures["cells"]
    lines = [
        f"{figures['input']}: {figures['width_px']}x{figures['height_px']}, "
        f"{figures['bytes']} bytes, {figures['bpp']:.4f} bpp, format {figures['format_version']}",
        f"model: integers {figures['integer_digest']}, networks {figures['float_digest']}",
        *(["coded at half width and height"] if figures["resampling"] == 2 else []),
        *(f"{key}: {value}" for key, value in figures["metadata"].items()),
        output.table(
            ("section", "bytes"), [(name, str(size)) for name, size in figures["sections"].items()]
        ),
        output.table(
            ("level", "node", "cells"),
            [
                (str(level), str(node), f"{count} ({100 * count / sum(cells):.0f} %)")
                for level, (node, count) in enumerate(zip(nodes, cells, strict=True))
            ],
        ),
        "nodes: 0 is the finest, 1023 the coarsest",
    ]
    if "bits" in figures:
        bits, side = figures["bits"], figures["cell_px"]
        lines.append(
            f"ideal size of the symbols: {(bits['hyper'] + bits['latent']) / 8:.1f} bytes "
            f"(hyper-latents {bits['hyper'] / 8:.1f}, latents {bits['latent'] / 8:.1f})"
        )
        lines.append(
            f"bits per cell of {side}x{side} px: {bits['cell_min']:.2f} min, "
            f"{bits['cell_mean']:.2f} mean, {bits['cell_max']:.2f} max"
        )
    if figures.get("bits_map", files.PIPE) != files.PIPE:
        lines.append(f"heat map written to {figures['bits_map']}")
    return "\n".join(lines)
