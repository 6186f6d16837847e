"""`rcodec bench`: measures this release on this machine."""

from __future__ import annotations

from rcodec_jax.cli import (
    arguments,
    bench_codec,
    bench_coder,
    bench_data,
    bench_level_map,
    bench_sizes,
    bench_train,
    bench_unet,
)


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "bench", help="measure speed and memory", description="Measures speed and memory."
    )
    benches = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for bench in (
        bench_codec, bench_sizes, bench_coder, bench_data, bench_train, bench_unet, bench_level_map,
    ):  # fmt: skip
        bench.add_parser(benches)
