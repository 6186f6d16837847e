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
        description="Writes a model for others: 'diffusers' for its from_pretrained (models with "
        "Stable Diffusion's networks only, without the entropy model), 'safetensors' as a folder "
        "of weights, 'stablehlo' as programs that run without this package (encoder, "
        "hyper-analysis, step of the denoiser, decoder), with a loader beside them.",
    )
    parser.add_argument("source", metavar="MODEL", help="folder of weights, of a run or a bundle")
    parser.add_argument(
        "--format", required=True, choices=sorted(FORMATS), dest="layout", help="what to write"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--step",
        type=arguments.whole(0, None, "a whole number of at least 0"),
        metavar="N",
        help="checkpoint of a run to take (default: the latest)",
    )
    parser.add_argument(
        "--dtype",
        choices=arguments.DTYPES,
        help="what the programs of 'stablehlo' compute in (default: float32)",
    )
    parser.add_argument(
        "--half", action="store_true", help="round the parameters of 'safetensors' to float16"
    )
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    folder = files.check_folder(args.out, force=args.force, source=args.source)
    if args.dtype is not None and args.layout != "stablehlo":
        raise UsageError(f"--dtype: expected --format stablehlo with it, got {args.layout}")
    if args.half and args.layout != "safetensors":
        raise UsageError(f"--half: expected --format safetensors with it, got {args.layout}")
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
        f"{args.out}: {figures['bytes'] / 2**20:.2f} MiB in {len(sizes)} files, "
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
    notes = ["the UNet's constant context is in context.npy: hand it on as encoder_hidden_states"]
    if model.shift.any():
        notes.append(
            "the latent is shifted: latents_mean of vae/config.json, which not every program heeds"
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
        return ["no bundle: 'rcodec freeze' makes one, whose folder goes from symbols to pictures"]
    return ["the folder goes from a file's symbols to its picture; the package reads symbols"]


FORMATS: dict[str, Callable[[argparse.Namespace, Progress], list[str]]] = {
    "diffusers": _diffusers,
    "safetensors": _safetensors,
    "stablehlo": _stablehlo,
}
"""Writes `args.out` and returns what the user should know."""
