"""`rcodec bench coder`: the entropy coder, beside constriction's and CompressAI's."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from rcodec_jax.cli import arguments, output


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    coder = benches.add_parser(
        "coder",
        help="the entropy coder, compared with constriction and CompressAI",
        description="Times the entropy coder from symbols to bytes and back, compared with "
        "constriction and CompressAI where they are installed, on the same symbols with the same "
        "integer tables. Times are CPU times of one thread, from symbols and table indices in "
        "raster order to bytes and back. constriction takes one table per call, so its time "
        "includes sorting by table, except in the row 'sorted before'.",
    )
    coder.add_argument(
        "--max-symbols",
        type=arguments.whole(1000, None, "a whole number of at least 1000"),
        default=1_000_000,
        metavar="N",
        help="maximum number of symbols; sizes run from 1k to 10M (default: %(default)s)",
    )
    coder.add_argument(
        "--node",
        type=arguments.whole(0, 1023, "a whole number in 0..1023"),
        default=600,
        metavar="N",
        help="quantiser node of the symbols, 0 is the finest (default: %(default)s, about 0.1 bpp)",
    )
    arguments.add_model_option(coder)
    arguments.add_json_option(coder)
    arguments.add_run_options(coder, jax=False)
    coder.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    from rcodec_jax.bench import coder, coderpeers
    from rcodec_jax.model.bundle import load_integers, shipped_bundle

    part = load_integers(args.model or shipped_bundle())
    missing = coderpeers.missing()
    output.notes(f"{name} is not installed, so it is skipped" for name in missing)
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
