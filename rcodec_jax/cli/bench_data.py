"""`rcodec bench data`: the training loader beside the step it feeds."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from rcodec_jax.cli import arguments, environment, output


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    data = benches.add_parser(
        "data",
        help="the training loader, compared with the speed of a training step",
        description="Measures how many crops per second the training loader delivers from a "
        "source, by threads and worker processes, and whether a step of a given time would wait "
        "for it.",
    )
    data.add_argument("source", metavar="SOURCE", help="pictures, as for 'train --data'")
    arguments.add_split_option(data)
    data.add_argument(
        "--crop-px",
        type=arguments.whole(8, 8192, "a whole number of at least 8"),
        default=128,
        metavar="PX",
        help="side of the crops in pixels (default: %(default)s)",
    )
    data.add_argument(
        "--batch",
        type=arguments.whole(1, 65536, "a whole number of at least 1"),
        default=8,
        metavar="N",
        help="crops per step (default: %(default)s)",
    )
    data.add_argument(
        "--step-seconds",
        type=arguments.above_zero("a number of seconds above 0"),
        metavar="S",
        help="time of a training step, as 'rcodec bench train' reports it",
    )
    data.add_argument(
        "--workers",
        type=arguments.whole(0, 4096, "a whole number of at least 0"),
        default=0,
        metavar="N",
        help="also measure with N worker processes (default: threads only)",
    )
    data.add_argument(
        "--cache-mb",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        default=0,
        metavar="MB",
        help="memory for decoded pictures in megabytes (default: none)",
    )
    data.add_argument(
        "--seconds",
        type=arguments.above_zero("a number of seconds above 0"),
        default=3.0,
        metavar="S",
        help="duration of each measurement in seconds (default: %(default)s)",
    )
    arguments.add_json_option(data)
    data.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    from rcodec_jax.bench import data as bench
    from rcodec_jax.data import Mixture, open_source

    cores = environment.usable_cores()
    source = open_source(args.source, split=args.split, cache_bytes=args.cache_mb * 10**6)
    settings = [(threads, 0) for threads in sorted({1, 2, cores})]
    settings += [(2, args.workers)] if args.workers else []
    with output.Progress("bench") as progress:
        rows = bench.run(
            Mixture((source,), (1.0,)),
            crop_px=args.crop_px,
            batch_size=args.batch,
            node_range=(0, 1023),
            settings=settings,
            seconds=args.seconds,
            step_seconds=args.step_seconds,
            progress=progress.update,
        )
    decoders = bench.decoders(min(1.0, args.seconds))
    needed = args.batch / args.step_seconds if args.step_seconds else None
    figures = {
        "source": repr(source),
        "crop_px": args.crop_px,
        "batch": args.batch,
        "step_seconds": args.step_seconds,
        "needed_crops_per_s": needed,
        "cores": cores,
        "rows": [dataclasses.asdict(row) for row in rows],
        "jpeg_decoders": [dataclasses.asdict(decoder) for decoder in decoders],
    }
    shown = [
        (
            output.counted(row.threads, "thread")
            + (f" x {output.counted(row.workers, 'worker')}" if row.workers else ""),
            f"{row.crops_per_s:,.0f}",
            f"{row.mb_per_s:,.1f}",
            "-" if row.crops_per_core_s is None else f"{row.crops_per_core_s:,.0f}",
            "-" if needed is None else f"{row.crops_per_s / needed:.1f}",
            "-" if row.wait_share is None else f"{100 * row.wait_share:.2f}",
        )
        for row in rows
    ]
    header = ("loader", "crops/s", "MB/s", "crops/s per core", "x needed", "wait %")
    text = output.table(header, shown)
    if needed is not None:
        text += f"\na step of {args.step_seconds:g} s needs {needed:,.1f} crops/s"
    text += "\n\n" + output.table(
        ("JPEG of 768x512 on one core", "pictures/s", "same pixels as Pillow"),
        [(d.name, f"{d.pictures_per_s:,.0f}", "yes" if d.equal else "no") for d in decoders],
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0
