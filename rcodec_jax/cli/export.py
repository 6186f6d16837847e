"""`rcodec export`: a model in the layout of another program."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError
from rcodec_jax.progress import Progress


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "export",
        help="write a model in the layout of another program",
        description="Writes a model for other programs. 'diffusers' is read by from_pretrained of "
        "diffusers; it takes models with the networks of Stable Diffusion and drops the entropy "
        "model. 'safetensors' is a folder of weights. 'stablehlo' contains programs that run "
        "without this package (encoder, hyper-analysis, denoising step and decoder) and a loader "
        "for them.",
    )
    parser.add_argument("source", metavar="MODEL", help="folder of weights, run or bundle")
    parser.add_argument(
        "--format", required=True, choices=sorted(FORMATS), dest="layout", help="layout to write"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--step",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        metavar="N",
        help="checkpoint of the run to export (default: the latest)",
    )
    parser.add_argument(
        "--dtype",
        choices=arguments.DTYPES,
        help="precision of the 'stablehlo' programs (default: float32)",
    )
    parser.add_argument(
        "--half", action="store_true", help="round the 'safetensors' weights to float16"
    )
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    folder = files.check_folder(args.out, force=args.force, source=args.source)
    if args.dtype is not None and args.layout != "stablehlo":
        raise UsageError(f"--dtype: only valid with --format stablehlo, got {args.layout}")
    if args.half and args.layout != "safetensors":
        raise UsageError(f"--half: only valid with --format safetensors, got {args.layout}")
    start = time.perf_counter()
    with output.Progress("export") as progress:
        notes = FORMATS[args.layout](args, progress.update)
    sizes = files.sizes(folder)
    figures = {
        "source": args.source,
        "format": args.layout,
        "out": args.out,
        "files": sizes,
        "bytes": sum(sizes.values()),
        "notes": notes,
        "seconds": time.perf_counter() - start,
    }
    if not args.json:
        output.notes(notes)
    output.report(
        figures,
        f"{args.out}: {figures['bytes'] / 2**20:.2f} MiB in {output.counted(len(sizes), 'file')}, "
        f"{figures['seconds']:.1f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return 0


def _diffusers(args: argparse.Namespace, progress: Progress) -> list[str]:
    from rcodec_jax.export.exporting import export_diffusers
    from rcodec_jax.model.trained import load_trained

    model = load_trained(args.source, step=args.step, entropy=False)
    export_diffusers(model, args.out, progress=progress)
    notes = ["the constant context of the UNet is in context.npy: pass it as encoder_hidden_states"]
    if model.shift.any():
        notes.append(
            "the latent has a shift, latents_mean in vae/config.json, which some programs ignore"
        )
    return notes


def _safetensors(args: argparse.Namespace, progress: Progress) -> list[str]:
    from rcodec_jax.export.exporting import export_weights
    from rcodec_jax.model.trained import load_trained

    model = load_trained(args.source, step=args.step)
    export_weights(model, args.out, half=args.half, progress=progress)
    return []


def _stablehlo(args: argparse.Namespace, progress: Progress) -> list[str]:
    from rcodec_jax.export.stablehlo import export_stablehlo
    from rcodec_jax.model.trained import kind_of, load_trained

    model = load_trained(args.source, step=args.step, entropy=False)
    dtype = args.dtype or "float32"
    export_stablehlo(model, args.out, source=args.source, dtype=dtype, progress=progress)
    if kind_of(args.source) != "bundle":
        return [
            "not a bundle: only a bundle, as 'rcodec freeze' makes it, decodes symbols to pictures"
        ]
    return ["the programs decode symbols to pictures; this package reads the symbols of a file"]


FORMATS: dict[str, Callable[[argparse.Namespace, Progress], list[str]]] = {
    "diffusers": _diffusers,
    "safetensors": _safetensors,
    "stablehlo": _stablehlo,
}
"""Writes `args.out` and returns what the user should know."""
