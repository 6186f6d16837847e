"""`rcodec realism`: gives a bundle two more decoders, for least error and for real detail."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.cli.sample import add_options, draw_crops
from rcodec_jax.errors import UsageError

if TYPE_CHECKING:
    from rcodec_jax.model.bundle import Bundle


def add_parser(subparsers: arguments.Subparsers) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "realism",
        help="train the two extra decoders of 'decode --realism' for a bundle",
        description="Trains two copies of the decoder of a bundle, called its ends: the fidelity "
        "end on squared error, the realism end against a discriminator. 'rcodec decode --realism "
        "R' then mixes the decoders. Coded files do not change.",
    )
    add_options(parser, to="train on", always=False)
    parser.add_argument(
        "--lpips", metavar="FOLDER", help="folder with lpips_squeeze.npz, to train the realism end"
    )
    parser.add_argument(
        "--ends-from",
        metavar="BUNDLE",
        help="start from the ends of an earlier bundle, or of 'shipped': their differences from "
        "its decoder are added to this decoder. With '--minutes 0 --fidelity-minutes 0' nothing is "
        "trained after that",
    )
    parser.add_argument(
        "--extrapolate",
        type=arguments.number(0, 10, "a number in 0..10"),
        metavar="X",
        help="do not train the realism end but extrapolate it: the decoder plus X times its "
        "difference from the fidelity end",
    )
    minutes = arguments.number(0, 1e9, "a number of at least 0")
    above = arguments.above_zero("a number above 0")
    for name, default, parse, what in (
        (
            "minutes",
            25.0,
            minutes,
            "training time of the realism end in minutes, after the crops are encoded",
        ),
        ("fidelity-minutes", 8.0, minutes, "training time of the fidelity end in minutes"),
        ("error-ratio", 1.2, above, "target of the squared error, relative to that of the decoder"),
        ("adversarial", 0.1, above, "weight of the discriminator"),
    ):
        parser.add_argument(
            f"--{name}",
            type=parse,
            default=default,
            metavar="X",
            help=f"{what} (default: {default})",
        )
    parser.add_argument(
        "--crops",
        type=arguments.whole(8, None, "a whole number of at least 8"),
        default=2048,
        metavar="N",
        help="number of training crops of 128 pixels, each encoded once (default: 2048)",
    )
    parser.set_defaults(run=run, uses_jax=True, huge_pages=True)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    if args.extrapolate is not None:
        args.minutes = 0.0
    training = args.minutes > 0 or args.fidelity_minutes > 0
    made = args.minutes > 0 or args.extrapolate is not None
    if args.ends_from is None and not (made and args.fidelity_minutes > 0):
        raise UsageError("--ends-from: required for an end that is not trained")
    if training and args.data is None:
        raise UsageError("--data: required for training")
    if args.minutes > 0 and args.lpips is None:
        raise UsageError("--lpips: required to train the realism end")
    folder = files.check_folder(args.out, force=args.force, source=args.bundle)

    from rcodec_jax.model.bundle import load_bundle
    from rcodec_jax.model.ends import FIDELITY, REALISM
    from rcodec_jax.model.freezing import save_changed
    from rcodec_jax.model.unfreezing import unfreeze

    bundle = load_bundle(args.bundle)
    entropy = unfreeze(args.bundle, bundle)
    ends: dict[str, Any] = dict.fromkeys((FIDELITY, REALISM))
    card: dict[str, Any] = {}
    if args.ends_from is not None:
        earlier = load_bundle(args.ends_from)
        ends = {end: _carried_over(args.ends_from, earlier, end, bundle) for end in ends}
        card["from"] = earlier.float_digest.hex()
    start = time.perf_counter()
    figures: dict[str, dict[str, float]] = {}
    if training:
        trained, figures = _train(args, bundle, entropy[0], ends)
        ends |= trained
    if args.extrapolate is not None:
        from rcodec_jax.train.realism import extrapolated

        ends[REALISM] = extrapolated(ends[FIDELITY], bundle.params["decoder"], args.extrapolate)
        figures[REALISM] = {"extrapolate": args.extrapolate}
    card = bundle.card | {"ends": figures | card}
    changed = dataclasses.replace(bundle, params=bundle.params | ends, card=card)
    save_changed(folder, changed, entropy)
    seconds = time.perf_counter() - start
    figures = {end: figures.get(end, {}) for end in ends}
    output.report(
        {"bundle": args.out, "seconds": seconds} | figures,
        f"{args.out}: both ends written, after "
        + " and ".join(f"{of.get('steps', 0):.0f}" for of in figures.values())
        + f" steps, {seconds:.0f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return 0


def _train(
    args: argparse.Namespace, bundle: Bundle, entropy: dict[str, Any], initial: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Trains the ends that have minutes, from what they start from: those ends, and the last
    figures of each."""
    import jax
    import jax.numpy as jnp

    from rcodec_jax.metrics.perceptual import Lpips
    from rcodec_jax.model.ends import FIDELITY, REALISM
    from rcodec_jax.model.networks import Networks
    from rcodec_jax.train import realism

    # Before the work: a folder without the weights should not cost the coding of crops.
    perceptual = Lpips.load(args.lpips, "squeeze") if args.minutes > 0 else None
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
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), bundle.params | entropy)
    networks = Networks(bundle.config)
    crops = realism.collect(networks, params, bundle.shift, bundle.scale, pictures, config)
    figures: dict[str, dict[str, float]] = {}

    def how(end: str) -> dict[str, Any]:
        def report(minutes: float, steps: int, seen: dict[str, float]) -> None:
            figures[end] = seen | {"minutes": minutes, "steps": steps}
            text = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
            print(f"{minutes:5.1f} min, step {steps}: {text}", file=sys.stderr, flush=True)

        return {"initial": initial[end], "report": report}

    given, trained = (networks, params["decoder"], crops), {}
    if config.fidelity_minutes:
        trained[FIDELITY] = realism.train_fidelity(*given, config, **how(FIDELITY))
    if perceptual is not None:
        trained[REALISM] = realism.train_realism(*given, perceptual, config, **how(REALISM))
    return trained, figures


def _carried_over(folder: str, earlier: Bundle, end: str, bundle: Bundle) -> Any:
    """An end of the earlier bundle, which is in the folder, for the decoder of another.

    Raises:
      UsageError: it has none, or a decoder of another shape.
    """
    import numpy as np

    from rcodec_jax.model.trees import flatten
    from rcodec_jax.train.realism import carried_over

    if end not in earlier.params:
        raise UsageError(f"{folder}: expected a bundle with realism ends, got one without {end}")
    before, decoder = (of.params["decoder"] for of in (earlier, bundle))
    known = {path: np.shape(leaf) for path, leaf in flatten(decoder).items()}
    if any(np.shape(leaf) != known.get(path) for path, leaf in flatten(before).items()):
        raise UsageError(f"{folder}: expected a decoder of the same shape, got another")
    return carried_over(earlier.params[end], before, decoder)
