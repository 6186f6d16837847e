"""`rcodec realism`: gives a bundle two more decoders, for least error and for real detail."""

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
        help="train the ends of 'decode --realism' for a bundle",
        description="Trains two copies of a bundle's decoder: one by squared error, one against a "
        "discriminator. Files stay the same; 'rcodec decode --realism R' then mixes decoders.",
    )
    add_options(parser, to="train on")
    parser.add_argument(
        "--lpips", required=True, metavar="FOLDER", help="folder with lpips_squeeze.npz"
    )
    for name, default, what in (
        ("minutes", 25.0, "of training the realism end, after the crops are coded"),
        ("fidelity-minutes", 8.0, "of training the fidelity end"),
        ("error-ratio", 1.2, "squared error to aim at, against the decoder's"),
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
    from rcodec_jax.model.bundle import load_bundle
    from rcodec_jax.model.ends import FIDELITY, REALISM
    from rcodec_jax.model.freezing import save_changed
    from rcodec_jax.model.networks import Networks
    from rcodec_jax.model.unfreezing import unfreeze
    from rcodec_jax.train import realism

    bundle = load_bundle(args.bundle)
    perceptual = Lpips.load(args.lpips, "squeeze")
    entropy = unfreeze(args.bundle, bundle)
    config = realism.RealismConfig(
        minutes=args.minutes,
        fidelity_minutes=args.fidelity_minutes,
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
    figures: dict[str, dict[str, float]] = {FIDELITY: {}, REALISM: {}}

    def reporting(end: str) -> realism.Report:
        def report(minutes: float, steps: int, seen: dict[str, float]) -> None:
            figures[end] = seen | {"minutes": minutes, "steps": steps}
            text = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
            print(f"{minutes:5.1f} min, step {steps}: {text}", file=sys.stderr, flush=True)

        return report

    given = networks, params["decoder"], crops
    ends = {
        FIDELITY: realism.train_fidelity(*given, config, report=reporting(FIDELITY)),
        REALISM: realism.train_realism(*given, perceptual, config, report=reporting(REALISM)),
    }
    card = bundle.card | {"ends": figures}
    save_changed(
        folder, dataclasses.replace(bundle, params=bundle.params | ends, card=card), entropy
    )
    seconds = time.perf_counter() - start
    output.report(
        {"bundle": args.out, "seconds": seconds} | figures,
        f"{args.out}: both ends, after "
        + " and ".join(f"{of['steps']:.0f}" for of in figures.values())
        + f" steps, {seconds:.0f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return 0
