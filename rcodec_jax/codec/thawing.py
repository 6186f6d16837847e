"""Thawing: the integers of a bundle as floats again, so that a shipped model can be trained on.

The convolutions come back from their integers, to a part in ten thousand; what integers alone do
not say (the networks behind the tables by node, the prior of z) a bundle keeps beside them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from rcodec_jax.codec.bundle import TRAINING, Bundle
from rcodec_jax.codec.fixedpoint import fractions
from rcodec_jax.codec.networks import Params
from rcodec_jax.codec.trees import flatten, unflatten
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import Conv
from rcodec_jax.errors import BundleError


def what_freezing_loses(
    config: ModelConfig, params: Params, ranges: dict[str, float]
) -> dict[str, np.ndarray]:
    """The arrays that `thaw` needs besides a bundle's integers, by flat name."""
    synthesis = params["hyper_synthesis"]
    rows = {name: value for name, value in synthesis.items() if name.startswith("rows_")}
    tree = {"hyper_synthesis": rows, "hyper_prior": params["hyper_prior"], "ranges": ranges}
    arrays = {name: np.asarray(value, np.float32) for name, value in flatten(tree).items()}
    arrays["fractions"] = np.array(fractions(config, params, ranges), np.int32)
    return arrays


def thaw(folder: str | os.PathLike[str], bundle: Bundle) -> tuple[dict[str, Any], dict[str, float]]:
    """Float parameters of a bundle's entropy model, and the ranges tracked in its training.

    Args:
      folder: the bundle's folder.
      bundle: the same, loaded.

    Returns:
      ({"hyper_synthesis": ..., "hyper_prior": ...}, ranges by name).

    Raises:
      BundleError: the bundle was made without what training needs, or it does not fit.
    """
    path = Path(folder) / TRAINING
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        fraction = arrays.pop("fractions").tolist()
        tree = unflatten(arrays)
        hyper = {name: tree[name] for name in ("hyper_synthesis", "hyper_prior")}
        ranges = {name: float(value) for name, value in tree["ranges"].items()}
    except OSError as error:
        raise BundleError(f"{path}: needed to train on from a bundle: {error.strerror}") from error
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: {error}") from error
    convs = [layer for layer in bundle.integers.network.layers if isinstance(layer, Conv)]
    if len(fraction) != len(convs) + 1:
        raise BundleError(f"{path}: {len(fraction)} formats for {len(convs)} convolutions")
    for i, conv in enumerate(convs):
        bits = conv.shift - fraction[i] + fraction[i + 1]
        hyper["hyper_synthesis"][f"conv_{i}"] = {
            "conv": {
                "kernel": (conv.weight * 2.0**-bits).astype(np.float32),
                "bias": (conv.bias * 2.0 ** -(fraction[i] + bits)).astype(np.float32),
            }
        }
    return hyper, ranges
