"""What training leaves, read from a folder of weights, a run or a bundle."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from rcodec_jax.config import from_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import Centroids
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA, expected_quantiser
from rcodec_jax.errors import UsageError
from rcodec_jax.files import read_json_lines
from rcodec_jax.model import unfreezing
from rcodec_jax.model.bundle import (
    FLOAT_PARTS,
    MANIFEST,
    OPTIONAL_PARTS,
    load_bundle,
    located,
)
from rcodec_jax.model.networks import model_parts
from rcodec_jax.model.ranges import measured_ranges
from rcodec_jax.model.weights import is_weights, open_weights

RUN_CONFIG = "config.json"
RUN_CHECKPOINTS = "checkpoints"
RUN_METRICS = "metrics.jsonl"
"""What the folder of a run holds, besides what only training reads."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model in floats, of any kind of folder.

    Attributes:
      config: the model's shape.
      params: averaged parameters of all parts, nested dictionaries of arrays, or of what
        `np.asarray` makes arrays: those of weights stay on disk until they are needed.
      shift: mean of the encoder's output by channel, float32 [C].
      power: its mean variance.
      ranges: largest magnitude of each activation of the hyper-synthesis; None if nobody tracked
        them.
      card: name, recipe and figures.
      source: where weights come from; None for a run or a bundle.
      fitted: centroids of a bundle, see `centroids`.
    """

    config: ModelConfig
    params: dict[str, Any]
    shift: np.ndarray
    power: float
    ranges: dict[str, float] | None
    card: dict[str, Any]
    source: dict[str, Any] | None = None
    fitted: Centroids | None = None

    @property
    def scale(self) -> np.ndarray:
        """float32 [C]: y = (encoder output - shift) * scale."""
        return np.full_like(self.shift, 1.0 / np.sqrt(self.power))

    @property
    def centroids(self) -> Centroids | None:
        """Of a bundle as fitted, else as in theory; None of a model with linear estimates."""
        if not self.config.hyper.centroids:
            return None
        return self.fitted or expected_quantiser(RDOQ_LAMBDA)[1]

    def entropy_model(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Its parameters in float32, and the ranges, measured where nobody tracked them.

        Returns:
          ({"hyper_synthesis": ..., "hyper_prior": ...} and "hyper_context" of a model that has it,
          ranges by name).
        """
        wanted = (part for part in model_parts(self.config) if part not in FLOAT_PARTS)
        parts = {name: self.params[name] for name in wanted}
        parts = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), parts)
        return parts, self.ranges or measured_ranges(self.config, parts)


def kind_of(folder: str | os.PathLike[str]) -> Literal["weights", "bundle", "run"]:
    """What a folder holds, or that of the model that ships with the package, `SHIPPED`.

    Raises:
      UsageError: none of the three.
    """
    folder = located(folder)
    if is_weights(folder):
        return "weights"
    if (folder / MANIFEST).is_file():
        return "bundle"
    if (folder / RUN_CONFIG).is_file():
        return "run"
    found = "none of them" if folder.is_dir() else "a file" if folder.exists() else "nothing there"
    raise UsageError(f"{folder}: expected the folder of weights, a run or a bundle, got {found}")


def load_trained(
    folder: str | os.PathLike[str], *, step: int | None = None, entropy: bool = True
) -> Trained:
    """Reads weights, a run or a bundle.

    Args:
      folder: of any of them, or `SHIPPED` for the model that ships with the package.
      step: checkpoint of a run to take; None for the latest.
      entropy: False leaves out the entropy model of a bundle, which is integers there.

    Raises:
      UsageError: none of the three, a run without a checkpoint, or a step of what has none.
      WeightsError: damaged weights.
      BundleError: a damaged bundle, or one without what training needs of its entropy model.
    """
    folder, kind = located(folder), kind_of(folder)
    if kind == "run":
        return _of_run(folder, step)
    if step is not None:
        held = "a bundle" if kind == "bundle" else kind
        raise UsageError(f"{folder}: a step is of a run, and this folder holds {held}")
    return _of_weights(folder) if kind == "weights" else _of_bundle(folder, entropy)


def _of_weights(folder: Path) -> Trained:
    found = open_weights(folder)
    statistics = (found.shift, found.power, found.ranges)
    return Trained(found.config, found.stored(), *statistics, found.card, found.source)


def _of_bundle(folder: Path, entropy: bool) -> Trained:
    bundle = load_bundle(folder)
    hyper, ranges = unfreezing.unfreeze(folder, bundle) if entropy else ({}, None)
    # A part beside the model's own was made for the decoder as it is: it ends with the bundle.
    params = {name: bundle.params[name] for name in bundle.params if name not in OPTIONAL_PARTS}
    params |= hyper
    return Trained(
        bundle.config,
        params,
        bundle.shift,
        bundle.power,
        ranges,
        bundle.card,
        fitted=bundle.integers.centroids,
    )


def _of_run(workdir: Path, step: int | None) -> Trained:
    """The averaged parameters and statistics of a run."""
    name, model, averages = _described(workdir / RUN_CONFIG)

    from rcodec_jax.checkpoint import Checkpoints  # orbax takes seconds to import

    with Checkpoints(workdir / RUN_CHECKPOINTS, read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        averaged = "ema" if averages else "params"
        saved = checkpoints.restore_params((averaged, "stats"), step=step)
    stats = saved["stats"]
    return Trained(
        config=model,
        params=saved[averaged],
        shift=np.asarray(stats["shift"], np.float32),
        power=float(stats["power"]),
        ranges={name: float(value) for name, value in stats["ranges"].items()},
        card={"name": name, "steps": step, "training": _last_figures(workdir, step)},
    )


def _described(path: Path) -> tuple[str, ModelConfig, bool]:
    """Name and model of a run, and whether it keeps averages.

    No more of its configuration is read: how a model was trained may by now be refused, and is of
    no concern to those who use it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        model = from_dict(ModelConfig, found["model"])
        return str(found["name"]), model, found["train"]["ema_decay"] is not None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not the configuration of a run: {error!r}") from error


def _last_figures(workdir: Path, step: int | None) -> dict[str, float]:
    """The last logged figures up to a step."""
    rows = read_json_lines(workdir / RUN_METRICS)
    rows = [row for row in rows if step is None or row.get("step", math.inf) <= step]
    keep = ("step", "loss", "bpp", "bpp_y", "bpp_z", "psnr", "lpips", "latent")
    return {name: rows[-1][name] for name in keep if name in rows[-1]} if rows else {}
