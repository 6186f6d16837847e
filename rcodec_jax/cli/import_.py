"""`rcodec import`: weights of Stable Diffusion or of LPIPS become files of ours."""

from __future__ import annotations

import argparse
import sys
import time

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "import",
        help="take over the weights of Stable Diffusion or of LPIPS",
        description="Makes a folder of weights of a model in diffusers' layout: its autoencoder "
        "and UNet as they are, an entropy model from the seed; and FOLDER/recipe.py, that of "
        "configs/paper.py for this very model, which starts from it: 'rcodec train "
        "FOLDER/recipe.py'. With --kind lpips it makes "
        "lpips_alex.npz or the like, for 'rcodec eval --lpips FOLDER' and train.lpips_dir, from "
        "the files of torchvision's network and of its heads in the package lpips "
        "(lpips/weights/v0.1/alex.pth).",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="MODEL",
        help="folder with unet/, vae/, scheduler/, or id on the hub; with --kind lpips files that "
        "torch.save wrote, or .safetensors",
    )
    parser.add_argument(
        "--kind",
        choices=("diffusers", "lpips"),
        default="diffusers",
        help="what MODEL is (default: %(default)s)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of weights to write")
    parser.add_argument(
        "--context",
        metavar="WHAT",
        help="constant context of the UNet: a .npy file, 'text' for the text encoder's of an empty "
        "prompt, 'learned' for a random start (default: the text encoder's where it can be run)",
    )
    parser.add_argument(
        "--seed",
        type=arguments.whole(0, 2**32 - 1, "a whole number in 0..2^32-1"),
        default=0,
        metavar="N",
        help="of what starts at random (default: 0)",
    )
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.kind == "lpips":
        return _import_lpips(args)
    if len(args.sources) != 1:
        raise UsageError(f"MODEL: expected one without --kind lpips, got {len(args.sources)}")
    (source,) = args.sources
    files.check_folder(args.out, force=args.force, source=source)

    from rcodec_jax.export.importing import import_diffusers

    start = time.perf_counter()
    with output.Progress("import") as progress:
        done = import_diffusers(
            source,
            args.out,
            context=args.context,
            seed=args.seed,
            progress=progress.update,
        )
    unet = done.config.unet
    figures = {
        "source": source,
        "weights": args.out,
        "parameters": {**done.parameters, "all": sum(done.parameters.values())},
        "prediction": unet.prediction,
        "context": done.context,
        "recipe": str(done.recipe),
        "seconds": time.perf_counter() - start,
    }
    rows = [(part, f"{count / 1e6:.2f} M") for part, count in figures["parameters"].items()]
    text = (
        f"{output.table(('part', 'parameters'), rows)}\n"
        f"{args.out}: predicts {unet.prediction}, context {done.context}, "
        f"{figures['seconds']:.1f} s. To train on: 'rcodec train {done.recipe} --data PICTURES "
        "--workdir DIR'"
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0


def _import_lpips(args: argparse.Namespace) -> int:
    if args.context is not None:
        raise UsageError("--context: expected none with --kind lpips")

    from rcodec_jax.export.lpips import import_lpips

    file, net, parameters = import_lpips(args.sources, args.out, force=args.force)
    figures = {"sources": args.sources, "file": str(file), "net": net, "parameters": parameters}
    text = (
        f"{file}: LPIPS {net}, {parameters / 1e6:.2f} M parameters. To use it: 'rcodec eval "
        f"--lpips {args.out} --lpips-net {net}', 'rcodec train --set train.lpips_dir={args.out}'"
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0
