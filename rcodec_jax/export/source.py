"""What can be exported: a folder of weights, a run or a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcodec_jax.codec.bundle import MANIFEST, load_bundle
from rcodec_jax.codec.freezing import load_run, load_trained
from rcodec_jax.codec.trees import flatten
from rcodec_jax.codec.weights import is_weights, open_weights
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import UsageError


class Model(NamedTuple):
    """A model of any of the three kinds.

    Attributes:
      config: its shape.
      tensors: parameters by path; `np.asarray` makes arrays of them, reading those on disk.
      shift, power: statistics of the latent; y = (encoder output - shift) / sqrt(power).
      ranges: of the hyper-synthesis' activations; None if nobody tracked them.
      source, card: where it comes from.
    """

    config: ModelConfig
    tensors: dict[str, Any]
    shift: np.ndarray
    power: float
    ranges: dict[str, float] | None
    source: dict[str, Any]
    card: dict[str, Any]


def open_model(
    folder: str | os.PathLike[str], *, step: int | None = None, entropy: bool = True
) -> Model:
    """Opens weights (their tensors stay on disk), a run or a bundle.

    Args:
      folder: of any of them.
      step: checkpoint of a run to take; None for the latest.
      entropy: False leaves out the entropy model of a bundle, which is integers there.

    Raises:
      UsageError: none of the three, or a step of what has none.
      WeightsError: damaged weights.
      BundleError: a damaged bundle.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: expected the folder of weights, a run or a bundle, "
            f"got {'a file' if folder.exists() else 'nothing there'}"
        )
    weighty, frozen = is_weights(folder), (folder / MANIFEST).is_file()
    if step is not None and (weighty or frozen):
        raise UsageError(f"{folder}: expected a run where a step is given, got none")
    if weighty:
        weights = open_weights(folder)
        tensors = flatten(weights.stored())
        statistics = (weights.shift, weights.power, weights.ranges)
        return Model(weights.config, tensors, *statistics, weights.source, weights.card)
    if frozen and not entropy:
        bundle = load_bundle(folder)
        power = float(bundle.scale[0]) ** -2
        return Model(
            bundle.config, flatten(bundle.params), bundle.shift, power, None, {}, bundle.card
        )
    found = load_trained(folder) if frozen else load_run(folder, step=step)
    tensors = flatten(found.params)
    return Model(found.config, tensors, found.shift, found.power, found.ranges, {}, found.card)
