"""Freezing: a run's checkpoint, or a folder of weights, becomes a bundle; and a bundle another."""

from __future__ import annotations

import os
from typing import Any

from rcodec_jax.errors import UsageError
from rcodec_jax.model import unfreezing
from rcodec_jax.model.bundle import Bundle, save_bundle
from rcodec_jax.model.fixedpoint import integer_part
from rcodec_jax.model.networks import Params
from rcodec_jax.model.rateloss import NODES, RateLoss, made_latents, rate_loss
from rcodec_jax.model.trained import kind_of, load_trained


def freeze(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    step: int | None = None,
    card: dict[str, Any] | None = None,
    bits: int = 16,
) -> dict[int, RateLoss]:
    """Makes a bundle.

    Args:
      source: the workdir of a run, or a folder of weights.
      out: folder of the bundle; made if it is missing.
      step: checkpoint of a run to take; None for the latest.
      card: more entries for the bundle's card.
      bits: 8 stores large kernels of the float networks in 8 bits, 16 all in half precision.

    Returns:
      What the integers cost in rate on made latents, by node.

    Raises:
      UsageError: the source is neither, or a run without a checkpoint, or a step of weights, or
        other bits.
      WeightsError: damaged weights.
      BundleError: the model cannot be made exact.
    """
    if kind_of(source) == "bundle":
        raise UsageError(f"{source}: expected the folder of a run or of weights, got a bundle")
    trained = load_trained(source, step=step)
    hyper, ranges = trained.entropy_model()
    params = trained.params | hyper
    integers = integer_part(trained.config, params, ranges)
    losses = rate_loss(trained.config, integers, params, made_latents(integers, NODES))
    origin = {} if trained.source is None else {"source": trained.source}
    save_bundle(
        out,
        trained.config,
        integers,
        params,
        trained.shift,
        trained.scale,
        origin | trained.card | (card or {}),
        unfreezing.what_freezing_loses(trained.config, params, ranges),
        bits=bits,
    )
    return dict(zip(NODES, losses, strict=True))


def save_changed(
    out: str | os.PathLike[str], bundle: Bundle, entropy: tuple[Params, dict[str, float]]
) -> None:
    """Writes a bundle that was changed in memory, such that it can be trained on as before.

    Args:
      out: folder of the bundle; made if it is missing.
      bundle: with other tables, parts or card than the one that was read; stored in its bits.
      entropy: what `unfreezing.unfreeze` gives of the one that was read.
    """
    hyper, ranges = entropy
    training = unfreezing.what_freezing_loses(bundle.config, hyper, ranges)
    networks = (bundle.config, bundle.integers, bundle.params, bundle.shift, bundle.scale)
    save_bundle(out, *networks, bundle.card, training, bits=bundle.bits)
