"""`rcodec realism`: gives a bundle a second decoder, for detail that looks real."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.cli.sample import add_options, draw_crops


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "realism",
        help="train a bundle's decoder for realism",
        description="Trains a copy of a bundle's decoder against a discriminator. Files stay the "
        "same; 'rcodec decode --realism R' then mixes both decoders.",
    )
    add_options(parser, to="train on")
    parser.add_argument(
        "--lpips", required=True, metavar="FOLDER", help="folder with lpips_squeeze.npz"
    )
    for name, default, what in (
        ("minutes", 25.0, "of training, after the crops are coded"),
        ("error-ratio", 1.2, "squared error to aim at, against the fidelity end's"),
        ("adversarial", 0.1, "weight of the discriminator"),
    ):
        parser.add_argument(
            f"--{name}",
            type=arguments.above_zero("a number above 0"),
            default=default,
            metavar="X",
            help=f"{what} (default: {default})",
        )
    parser.add_argument(
        "--crops",
        type=arguments.whole(8, None, "a whole number of at least 8"),
        default=2048,
        metavar="N",
        help="crops of 128 pixels that are coded once and trained on (default: 2048)",
    )
    parser.set_defaults(run=run, uses_jax=True, huge_pages=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    folder = files.check_folder(args.out, force=args.force, source=args.bundle)

    import jax
    import jax.numpy as jnp

    from rcodec_jax.metrics.perceptual import Lpips
    from rcodec_jax.model.bundle import REALISM, load_bundle
    from rcodec_jax.model.freezing import save_changed
    from rcodec_jax.model.networks import Networks
    from rcodec_jax.model.unfreezing import unfreeze
    from rcodec_jax.train import realism

    bundle = load_bundle(args.bundle)
    perceptual = Lpips.load(args.lpips, "squeeze")
    entropy = unfreeze(args.bundle, bundle)
    config = realism.RealismConfig(
        minutes=args.minutes,
        crops=args.crops,
        error_ratio=args.error_ratio,
        adversarial=args.adversarial,
        seed=args.seed,
    )
    side = config.crop_px
    pictures = draw_crops(
        args.data, side=side, most=4 * side, count=args.crops // 2, seed=args.seed
    )
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), bundle.params | entropy[0])
    networks = Networks(bundle.config)
    start = time.perf_counter()
    crops = realism.collect(networks, params, bundle.shift, bundle.scale, pictures, config)
    figures: dict[str, float] = {}

    def report(minutes: float, steps: int, seen: dict[str, float]) -> None:
        figures.update(seen | {"minutes": minutes, "steps": steps})
        text = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
        print(f"{minutes:5.1f} min, step {steps}: {text}", file=sys.stderr, flush=True)

    made = realism.train(networks, params["decoder"], crops, perceptual, config, report=report)
    both = bundle.params | {REALISM: made}
    card = bundle.card | {"realism": figures}
    save_changed(folder, dataclasses.replace(bundle, params=both, card=card), entropy)
    seconds = time.perf_counter() - start
    output.report(
        {"bundle": args.out, "seconds": seconds} | figures,
        f"{args.out}: a realism end after {figures['steps']:.0f} steps, {seconds:.0f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return 0
