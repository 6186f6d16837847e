"""`rcodec bench unet`: the denoiser and the VAE's decoder beside diffusers'."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, environment, output

if TYPE_CHECKING:
    from rcodec_jax.bench.unet import Row
    from rcodec_jax.config.model import ModelConfig

WIDTHS = {"64": (64, 64), "96": (96, 64)}
"""Latents by their longer side in cells: 512x512 and 768x512 pixels."""


def add_parser(benches: arguments.Subparsers) -> None:
    """Adds the benchmark's parser."""
    unet = benches.add_parser(
        "unet",
        help="the denoiser and the VAE decoder, compared with diffusers",
        description="Times one evaluation of the UNet of Stable Diffusion 2.1, with one level and "
        "with 16 on a random map, and the VAE decoder, with random weights and batch 1. Compares "
        "with diffusers in eager mode and under torch.compile, if installed. Calls alternate.",
    )
    unet.add_argument(
        "--size",
        choices=sorted(WIDTHS),
        action="append",
        help="64: latents of 64x64 cells, 96: of 96x64 cells (repeatable; default: both)",
    )
    unet.add_argument(
        "--model-size",
        choices=("paper", "small"),
        default="paper",
        help="paper: 866 M parameters, 4 GB for each program in float32; small: a toy model "
        "(default: %(default)s)",
    )
    unet.add_argument(
        "--repeats",
        type=arguments.whole(1, 1000, "a whole number of at least 1"),
        default=5,
        metavar="N",
        help="number of timed calls; the median is reported (default: %(default)s)",
    )
    unet.add_argument(
        "--torch-python",
        metavar="PATH",
        help="Python interpreter with torch and diffusers (default: this one)",
    )
    unet.add_argument("--no-torch", action="store_true", help="skip diffusers")
    unet.add_argument("--no-compile", action="store_true", help="skip torch.compile")
    arguments.add_dtype_option(unet)
    arguments.add_json_option(unet)
    arguments.add_run_options(unet)
    unet.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with torch
    import jax

    from rcodec_jax.bench import unet as bench
    from rcodec_jax.bench.machine import machine
    from rcodec_jax.bench.peak import measure_peaks
    from rcodec_jax.config.presets import SD21_UNET, stable_diffusion
    from rcodec_jax.model.compiling import compiler_options

    config = stable_diffusion(SD21_UNET) if args.model_size == "paper" else bench.SMALL
    sizes = [WIDTHS[size] for size in sorted(set(args.size or WIDTHS))]
    notes: list[str] = []
    with output.Progress("bench") as progress, contextlib.ExitStack() as stack:
        progress.update(0, 1, "peaks")
        peaks = measure_peaks(jax.numpy.dtype(args.dtype), compiler_options=compiler_options())
        peer = None
        if not args.no_torch:
            progress.update(0, 1, "diffusers")
            python = args.torch_python or sys.executable
            accelerator = jax.default_backend() == "gpu"
            job = _job(config, args.dtype, args.threads, accelerator=accelerator)
            peer = stack.enter_context(bench.TorchPeer(python, job))
            if peer.missing:
                notes.append(f"diffusers: {peer.missing} is not installed (see --torch-python)")
                peer = None
        rows = bench.run(
            config,
            sizes,
            dtype=args.dtype,
            repeats=args.repeats,
            peaks=peaks,
            peer=peer,
            compiled=not args.no_compile,
            progress=progress.update,
            note=notes.append,
        )
    ratios = {
        "levels_16_over_1": bench.slower(rows, bench.SPATIAL, bench.SCALAR),
        "unet_over_diffusers_eager": bench.slower(rows, bench.SPATIAL, bench.EAGER),
        "decode_over_diffusers_eager": bench.slower(rows, bench.DECODER, bench.EAGER),
    }
    figures = {
        "model_size": args.model_size,
        "dtype": args.dtype,
        "threads": args.threads or environment.usable_cores(),
        "repeats": args.repeats,
        "machine": machine(),
        "peer": peer.about if peer is not None else None,
        "peaks": dataclasses.asdict(peaks),
        "rows": [dataclasses.asdict(row) for row in rows],
        "ratios": ratios,
        "notes": notes,
    }
    output.notes(notes)
    about = [machine(), *([peer.about["name"]] if peer is not None else [])]
    about.append(
        f"peaks in {args.dtype}: {peaks.matmul_flops / 1e9:,.0f} GFLOP/s of matrix products, "
        f"{peaks.conv_flops / 1e9:,.0f} of convolutions"
    )
    text = "\n".join([_table(rows), *_in_words(ratios), *about])
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0


def _job(
    config: ModelConfig, dtype: str, threads: int | None, *, accelerator: bool
) -> dict[str, Any]:
    """What the process with torch has to build, in diffusers' terms."""
    import numpy as np

    from rcodec_jax.export import architecture

    latent = architecture.Latent(np.zeros(config.latent_channels), architecture.SCALING_FACTOR**-2)
    return {
        "unet": architecture.write_unet(config),
        "vae": architecture.write_autoencoder(config, latent),
        "context": [config.unet.context_tokens, config.unet.context_features],
        "dtype": dtype,
        "threads": threads,
        "accelerator": accelerator,
    }


def _table(rows: list[Row]) -> str:
    return output.table(
        (
            "task",
            "cells",
            "implementation",
            "ms",
            "best ms",
            "GFLOP/s",
            "% of peak",
            "first call + s",
        ),
        [
            (
                row.task,
                f"{row.cells[0]}x{row.cells[1]}",
                row.name,
                f"{1e3 * row.median_s:,.1f}",
                f"{1e3 * row.best_s:,.1f}",
                f"{row.flops / row.median_s / 1e9:,.0f}",
                f"{100 * row.of_peak:.0f}",
                f"{row.compile_s:.1f}",
            )
            for row in rows
        ],
    )


def _in_words(ratios: dict[str, dict[str, float]]) -> list[str]:
    return [
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{ratio:.3f} ({task})" for task, ratio in by_task.items())
        for name, by_task in ratios.items()
        if by_task
    ]
