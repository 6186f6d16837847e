"""Unfreezing: the integers of a bundle as floats again, so that a shipped model can be trained on.

The convolutions come back from their integers, to a part in ten thousand; what integers alone do
not say (the networks behind the tables by node, the prior of z) a bundle keeps beside them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import Conv
from rcodec_jax.errors import BundleError
from rcodec_jax.model.bundle import TRAINING, Bundle, located
from rcodec_jax.model.fixedpoint import fractions
from rcodec_jax.model.networks import Params, model_parts
from rcodec_jax.model.trees import flatten, unflatten


def what_freezing_loses(
    config: ModelConfig, params: Params, ranges: dict[str, float]
) -> dict[str, np.ndarray]:
    """The arrays that `unfreeze` needs besides a bundle's integers, by flat name."""
    tree = {"hyper_prior": params["hyper_prior"], "ranges": ranges}
    for part in _integer_networks(config):
        kept = params[part].items()
        tree[part] = {name: value for name, value in kept if name.startswith("rows_")}
    arrays = {name: np.asarray(value, np.float32) for name, value in flatten(tree).items()}
    for part, bits in zip(_FRACTIONS, fractions(config, params, ranges), strict=True):
        if bits:
            arrays[_FRACTIONS[part]] = np.array(bits, np.int32)
    return arrays


_FRACTIONS = {"hyper_synthesis": "fractions", "hyper_context": "context_fractions"}
"""Parts that become integer networks, and the names that their fraction bits go by."""


def _integer_networks(config: ModelConfig) -> list[str]:
    return [part for part in _FRACTIONS if part in model_parts(config)]


def unfreeze(
    folder: str | os.PathLike[str], bundle: Bundle
) -> tuple[dict[str, Any], dict[str, float]]:
    """Float parameters of a bundle's entropy model, and the ranges tracked in its training.

    Args:
      folder: the bundle's folder.
      bundle: the same, loaded.

    Returns:
      ({"hyper_synthesis": ..., "hyper_prior": ...} and "hyper_context" of a model that has it,
      ranges by name).

    Raises:
      BundleError: the bundle was made without what training needs, or it does not fit.
    """
    path = located(folder) / TRAINING
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        networks = _integer_networks(bundle.config)
        fraction = {part: arrays.pop(_FRACTIONS[part]).tolist() for part in networks}
        tree = unflatten(arrays)
        hyper = {name: tree[name] for name in ("hyper_prior", *networks)}
        ranges = {name: float(value) for name, value in tree["ranges"].items()}
    except OSError as error:
        raise BundleError(f"{path}: needed to train on from a bundle: {error.strerror}") from error
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: {error}") from error
    context = bundle.integers.context
    integers = {"hyper_synthesis": bundle.integers.network}
    if context is not None:
        integers["hyper_context"] = context.network
    for part in networks:
        if part not in integers:
            raise BundleError(f"{path}: the integer part has no {part}")
        convs = [layer for layer in integers[part].layers if isinstance(layer, Conv)]
        if len(fraction[part]) != len(convs) + 1:
            raise BundleError(
                f"{path}: {len(fraction[part])} formats for {len(convs)} convolutions"
            )
        for i, conv in enumerate(convs):
            hyper[part][f"conv_{i}"] = {"conv": _floats(conv, *fraction[part][i : i + 2])}
    return hyper, ranges


def _floats(conv: Conv, fraction_in: int, fraction_out: int) -> dict[str, np.ndarray]:
    bits = conv.shift - fraction_in + fraction_out
    return {
        "kernel": (conv.weight * 2.0**-bits).astype(np.float32),
        "bias": (conv.bias * 2.0 ** -(fraction_in + bits)).astype(np.float32),
    }
