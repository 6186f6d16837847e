"""`rcodec import`: weights of Stable Diffusion or of measures become files of ours."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import UsageError


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "import",
        help="import weights of Stable Diffusion, LPIPS, DISTS or Inception",
        description="Converts a model in the layout of diffusers into a folder of weights: its "
        "autoencoder and UNet unchanged, and a randomly initialised entropy model. It also writes "
        "FOLDER/recipe.py, the recipe of configs/paper.py for this model, which starts from these "
        "weights: 'rcodec train FOLDER/recipe.py'. --kind lpips makes lpips_NET.npz, such as "
        "lpips_alex.npz, for 'rcodec eval --lpips FOLDER' and train.lpips_dir. It needs the file "
        "of the torchvision network and that of its heads in the package lpips "
        "(lpips/weights/v0.1/alex.pth). --kind dists makes dists.npz from VGG16 of torchvision and "
        "weights.pt of DISTS. --kind inception makes inception.npz for FID/256 from "
        "pt_inception-2015-12-05 of pytorch-fid.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="MODEL",
        help="folder with unet/, vae/ and scheduler/, or id on the Hugging Face hub. For another "
        "--kind: files of torch.save, or .safetensors",
    )
    parser.add_argument(
        "--kind",
        choices=("diffusers", "lpips", "dists", "inception"),
        default="diffusers",
        help="kind of MODEL (default: %(default)s)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of weights to write")
    parser.add_argument(
        "--context",
        metavar="CONTEXT",
        help="constant context of the UNet: a .npy file, 'text' for the text encoding of an empty "
        "prompt, or 'learned' for a random start (default: text if the text encoder can be run)",
    )
    arguments.add_seed_option(parser, "the random initialisation")
    arguments.add_json_option(parser)
    arguments.add_force_option(parser)
    arguments.add_run_options(parser)
    parser.set_defaults(run=run, uses_jax=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.kind != "diffusers":
        return _import_measure(args)
    if len(args.sources) != 1:
        raise UsageError(f"MODEL: expected a single one of kind diffusers, got {len(args.sources)}")
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
        f"{figures['seconds']:.1f} s. To train it: 'rcodec train {done.recipe} --data PICTURES "
        "--workdir DIR'"
    )
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0


def _import_measure(args: argparse.Namespace) -> int:
    if args.context is not None:
        raise UsageError(f"--context: not valid with --kind {args.kind}")
    figures: dict[str, Any] = {"sources": args.sources}
    use = f"'rcodec eval --lpips {args.out}'"
    if args.kind == "lpips":
        from rcodec_jax.export.lpips import import_lpips

        file, net, parameters = import_lpips(args.sources, args.out, force=args.force)
        figures["net"] = net
        name = f"LPIPS {net}"
        use = (
            f"'rcodec eval --lpips {args.out} --lpips-net {net}', 'rcodec train --set "
            f"train.lpips_dir={args.out}'"
        )
    elif args.kind == "dists":
        from rcodec_jax.export.dists import import_dists

        file, parameters = import_dists(args.sources, args.out, force=args.force)
        name = "DISTS"
    else:
        from rcodec_jax.export.inception import import_inception

        file, parameters = import_inception(args.sources, args.out, force=args.force)
        name = "Inception V3 for FID/256"
    figures |= {"file": str(file), "parameters": parameters}
    text = f"{file}: {name}, {parameters / 1e6:.2f} M parameters. To use it: {use}"
    output.report(figures, text, as_json=args.json, stream=sys.stdout)
    return 0
