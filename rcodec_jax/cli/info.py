"""`rcodec info`: what is in a file and where its bits went. Imports no JAX."""

from __future__ import annotations

import argparse
import io
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from rcodec_jax.bitstream import Container, Header


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "info",
        help="show what is in a file",
        description="Shows the header of a file, its sections in bytes and where the bits went.",
    )
    parser.add_argument("input", metavar="FILE", help="file to read, - for standard input")
    parser.add_argument(
        "--bits-map",
        metavar="PNG",
        help="draw where the bits went as a heat map, - for standard output",
    )
    arguments.add_model_option(parser)
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser, jax=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.bits_map:
        if args.bits_map != files.PIPE and not args.bits_map.lower().endswith(".png"):
            raise UsageError(
                f"--bits-map: expected a path that ends in .png, got {args.bits_map!r}"
            )
        files.check_output(args.bits_map, force=args.force, inputs=(args.input,))
    data = files.read_input(args.input, expected="an rcodec file")

    from rcodec_jax.bitstream import read_container

    container = read_container(data)
    figures = {"input": args.input, **_describe(container, len(data))}
    if args.bits_map or args.model:
        bits = bits_of(container, args.model)
        figures["bits"] = _figures_of(bits)
        if args.bits_map:
            _draw(bits, container.header, args.bits_map)
    piped = args.bits_map == files.PIPE
    output.report(
        figures, _in_words(figures), as_json=args.json, stream=sys.stderr if piped else sys.stdout
    )
    return 0


class Bits(NamedTuple):
    """Ideal bits of a file's symbols, -log2 of their probability in the model's tables.

    Attributes:
      cells: float64 [h,w], of each latent cell, hyper-latents' bits shared by the cells they cover.
      hyper: of all hyper-latents.
      latent: of all latents.
    """

    cells: np.ndarray
    hyper: float
    latent: float


def bits_of(container: Container, model: str | None) -> Bits:
    """Where the bits of a file went, read back from the file alone.

    Args:
      container: of the file.
      model: bundle folder, None to find the integer part by the digest in the file.

    Raises:
      BitstreamError: a damaged file, or one of a model that is not here.
    """
    from rcodec_jax.cli.heatmap import cell_bits
    from rcodec_jax.codec.symbols import find_integer_part, symbols_of

    part = find_integer_part(container.header, model)
    levels, symbols = symbols_of(container, part)
    bits_z, bits_y = part.bits(
        symbols.z, symbols.j, levels.nodes, levels.level_map, prior=symbols.prior
    )
    cells = cell_bits(bits_z, bits_y, part.hyper_stride)
    return Bits(cells, float(bits_z.sum()), float(bits_y.sum()))


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
    from rcodec_jax.data.images import write_image

    buffer = io.BytesIO()
    write_image(buffer, heatmap.draw(bits.cells, header.height_px, header.width_px), format="PNG")
    files.write_output(path, buffer.getvalue())


def _describe(container: Container, size_bytes: int) -> dict[str, Any]:
    """What the file says before its payload, as plain data."""
    import numpy as np

    from rcodec_jax.bitstream import FORMAT_VERSION
    from rcodec_jax.codec.symbols import read_levels

    header = container.header
    level_map = read_levels(container).level_map
    return {
        "format_version": FORMAT_VERSION,
        "bytes": size_bytes,
        "bpp": size_bytes * 8 / (header.width_px * header.height_px),
        "width_px": header.width_px,
        "height_px": header.height_px,
        "nodes": header.nodes.tolist(),
        "cells": np.bincount(level_map.ravel(), minlength=header.level_count).tolist(),
        "integer_digest": header.integer_digest.hex(),
        "float_digest": header.float_digest.hex(),
        "sections": dict(container.sections),
    }


def _in_words(figures: dict[str, Any]) -> str:
    nodes, cells = figures["nodes"], figures["cells"]
    lines = [
        f"{figures['input']}: {figures['width_px']}x{figures['height_px']}, "
        f"{figures['bytes']} bytes, {figures['bpp']:.4f} bpp, format {figures['format_version']}",
        f"model: integers {figures['integer_digest']}, networks {figures['float_digest']}",
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
        bits = figures["bits"]
        lines.append(
            f"symbols: {(bits['hyper'] + bits['latent']) / 8:.1f} bytes at best "
            f"(hyper-latents {bits['hyper'] / 8:.1f}, latents {bits['latent'] / 8:.1f})"
        )
        lines.append(
            f"bits per cell of 8x8 px: {bits['cell_min']:.2f} least, {bits['cell_mean']:.2f} mean, "
            f"{bits['cell_max']:.2f} most"
        )
    return "\n".join(lines)
