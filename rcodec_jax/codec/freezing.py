"""Freezing: a run's checkpoint, or a folder of weights, becomes a bundle."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcodec_jax.codec import thawing
from rcodec_jax.codec.bundle import MANIFEST, load_bundle, save_bundle
from rcodec_jax.codec.fixedpoint import integer_part
from rcodec_jax.codec.ranges import measured_ranges
from rcodec_jax.codec.rateloss import NODES, RateLoss, made_latents, rate_loss
from rcodec_jax.codec.weights import MANIFEST as WEIGHTS
from rcodec_jax.codec.weights import is_weights, open_weights
from rcodec_jax.config import from_json
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.config.train import Config
from rcodec_jax.errors import UsageError
from rcodec_jax.files import read_json_lines

RUN_CONFIG = "config.json"
RUN_CHECKPOINTS = "checkpoints"
RUN_METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves for freezing.

    Attributes:
      config: the model's shape.
      params: averaged parameters of all parts, nested dictionaries of arrays, or of what
        `np.asarray` makes arrays: those of large models stay on disk until they are needed.
      shift: mean of the encoder's output by channel [C].
      power: its mean variance.
      ranges: largest magnitude of each activation of the hyper-synthesis.
      card: where it comes from.
    """

    config: ModelConfig
    params: dict[str, Any]
    shift: np.ndarray
    power: float
    ranges: dict[str, float]
    card: dict[str, Any]


def freeze(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    step: int | None = None,
    card: dict[str, Any] | None = None,
) -> dict[int, RateLoss]:
    """Makes a bundle.

    Args:
      source: the workdir of a run, or a folder of weights.
      out: folder of the bundle; made if it is missing.
      step: checkpoint of a run to take; None for the latest.
      card: more entries for the bundle's card.

    Returns:
      What the integers cost in rate on made latents, by node.

    Raises:
      UsageError: the source is neither, or a run without a checkpoint, or a step of weights.
      WeightsError: damaged weights.
      BundleError: the model cannot be made exact.
    """
    if not is_weights(source):
        trained = load_run(source, step=step)
    elif step is None:
        trained = load_weights(source)
    else:
        raise UsageError(f"{source}: a step is of a run, these are weights")
    return freeze_trained(trained, out, card=card)


def freeze_trained(
    trained: Trained, out: str | os.PathLike[str], *, card: dict[str, Any] | None = None
) -> dict[int, RateLoss]:
    """Makes a bundle of parameters in memory; see `freeze`."""
    model = (trained.config, trained.params, trained.ranges)
    integers = integer_part(*model)
    losses = rate_loss(trained.config, integers, trained.params, made_latents(integers, NODES))
    save_bundle(
        out,
        trained.config,
        integers,
        trained.params,
        trained.shift,
        np.full_like(trained.shift, 1.0 / np.sqrt(trained.power)),
        trained.card | (card or {}),
        thawing.what_freezing_loses(*model),
    )
    return dict(zip(NODES, losses, strict=True))


def load_trained(source: str | os.PathLike[str]) -> Trained:
    """What a run, a folder of weights or a bundle holds, to train on from it.

    Raises:
      UsageError: none of the three.
      WeightsError: damaged weights.
      BundleError: a bundle that is damaged, or without what training needs.
    """
    source = Path(source)
    if is_weights(source):
        return load_weights(source)
    if not (source / MANIFEST).is_file():
        return load_run(source)
    bundle = load_bundle(source)
    hyper, ranges = thawing.thaw(source, bundle)
    return Trained(
        config=bundle.config,
        params=bundle.params | hyper,
        shift=bundle.shift,
        power=float(bundle.scale[0]) ** -2,
        ranges=ranges,
        card=bundle.card,
    )


def load_weights(folder: str | os.PathLike[str]) -> Trained:
    """A folder of weights, its float networks still on disk.

    Raises:
      WeightsError: no weights there, or damaged ones.
    """
    weights = open_weights(folder)
    params = weights.stored()
    for part in ("hyper_synthesis", "hyper_prior"):  # small, and wanted more than once
        params[part] = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params[part])
    ranges = weights.ranges or measured_ranges(weights.config, params)
    card = {"source": weights.source} | weights.card
    return Trained(weights.config, params, weights.shift, weights.power, ranges, card)


def load_run(workdir: str | os.PathLike[str], *, step: int | None = None) -> Trained:
    """Reads the averaged parameters and statistics of a run.

    Raises:
      UsageError: not a run, or no checkpoint in it.
    """
    workdir = Path(workdir)
    path = workdir / RUN_CONFIG
    if not path.is_file():
        raise UsageError(
            f"{workdir}: expected the folder of a run with a {RUN_CONFIG}, or of weights with a "
            f"{WEIGHTS}, got neither"
        )
    config = from_json(Config, path.read_text(encoding="utf-8"))

    from rcodec_jax.checkpoint import Checkpoints  # orbax takes seconds to import

    with Checkpoints(workdir / RUN_CHECKPOINTS, read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        averaged = "params" if config.train.ema_decay is None else "ema"
        saved = checkpoints.restore_params((averaged, "stats"), step=step)
    stats = saved["stats"]
    return Trained(
        config=config.model,
        params=saved[averaged],
        shift=np.asarray(stats["shift"], np.float32),
        power=float(stats["power"]),
        ranges={name: float(value) for name, value in stats["ranges"].items()},
        card={"name": config.name, "steps": step, "training": _last_figures(workdir, step)},
    )


def _last_figures(workdir: Path, step: int | None) -> dict[str, float]:
    """The last logged figures up to a step."""
    rows = read_json_lines(workdir / RUN_METRICS)
    rows = [row for row in rows if step is None or row.get("step", math.inf) <= step]
    keep = ("step", "loss", "bpp", "bpp_y", "bpp_z", "psnr", "lpips", "latent")
    return {name: rows[-1][name] for name in keep if name in rows[-1]} if rows else {}
