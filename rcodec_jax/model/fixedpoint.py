"""Hyper-synthesis from floats to integers (package README, "Integers").

Weights and activations get 16 bits with a power-of-two scale by layer, chosen from the weights
themselves and from the ranges that training tracked. The integer network proves the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import (
    PRIOR_BITS,
    SIGMA_LEVELS,
    ContextModel,
    Conv,
    DepthToSpace,
    Film,
    GaussianTables,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    StaticTables,
    sigma_of_level,
)
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA, expected_quantiser
from rcodec_jax.entropy.integer.context import GAIN_BITS, MAX_STEP, STEP_BITS, VALUE_BITS
from rcodec_jax.entropy.integer.partfile import SIGHTS
from rcodec_jax.errors import BundleError
from rcodec_jax.levels import HYPER_STRIDE, NODE_COUNT, nodes_per_class
from rcodec_jax.model.networks import Params
from rcodec_jax.nn.hyperprior import LOG_SCALE_MAX, LOG_SCALE_MIN, NEGATIVE_SLOPE, NodeRows
from rcodec_jax.passes import WEIGHT_BITS

_INT16 = 2**15 - 1
_MAX_FRACTION = 14
_MAX_WEIGHT_FRACTION = 34
"""With it no shift is above the 48 that the integer network allows."""

_HEADROOM = 2.0
"""Activations may grow to twice the range seen in training before they saturate."""

_TAIL = 2.0**-18
"""Symbols of z less likely than this are left to the escape."""


def integer_part(config: ModelConfig, params: Params, ranges: dict[str, float]) -> IntegerPart:
    """Freezes everything that steers the entropy decoder.

    Args:
      config: the model's shape.
      params: its parameters, NumPy or JAX arrays.
      ranges: largest magnitude of each activation that training tracked.

    Raises:
      BundleError: parameters that are not finite, or a layer whose exactness cannot be proved.
    """
    hyper = config.hyper
    log2_scale = node_table(config.noise_schedule).log2_scale
    log2_s = np.floor(log2_scale * 2**PRIOR_BITS + 0.5).astype(np.int32)
    classes = (np.arange(NODE_COUNT) // nodes_per_class(hyper.classes)).astype(np.uint8)
    weight = None
    if hyper.neighbours:
        weight = _rounded(params["hyper_prior"]["weight"], WEIGHT_BITS, "weight of neighbours")
    gaussian, centroids = GaussianTables.build(), None
    if hyper.centroids:
        gaussian, centroids = expected_quantiser(RDOQ_LAMBDA)
    context = None
    if hyper.context:
        layers, _ = _context_layers(config, params["hyper_context"], ranges)
        q = np.square(sigma_of_level(np.arange(SIGMA_LEVELS)))
        gain = np.floor(q / (q + 1 / 12) * 2**GAIN_BITS + 0.5).astype(np.int32)
        # Some schedules end in noise of which no step is worth telling.
        step = np.minimum(np.floor(2.0**STEP_BITS / np.exp2(log2_scale) + 0.5), MAX_STEP)
        step = step.astype(np.int32)
        context = ContextModel(IntegerNetwork(layers), gain, step)
    return IntegerPart(
        latent_channels=config.latent_channels,
        hyper_channels=hyper.hyper_channels,
        hyper_stride=HYPER_STRIDE,
        node_log2_s=log2_s,
        node_class=classes,
        gaussian=gaussian,
        hyper_tables=_hyper_tables(params["hyper_prior"]),
        network=IntegerNetwork(_layers(config, params["hyper_synthesis"], ranges)[0]),
        hyper_weight=weight,
        context=context,
        centroids=centroids,
        sees=tuple(what for what in SIGHTS if getattr(hyper, f"see_{what}")),
    )


def fractions(
    config: ModelConfig, params: Params, ranges: dict[str, float]
) -> tuple[list[int], list[int]]:
    """Fraction bits of what goes into each network and of what each of its convolutions gives.

    With them the integers can be read as floats again; arguments as for `integer_part`. The first
    is of the hyper-synthesis, the second of the context network, empty if there is none.
    """
    synthesis = _layers(config, params["hyper_synthesis"], ranges)[1]
    if not config.hyper.context:
        return synthesis, []
    return synthesis, _context_layers(config, params["hyper_context"], ranges)[1]


def _layers(
    config: ModelConfig, params: Any, ranges: dict[str, float]
) -> tuple[tuple[Any, ...], list[int]]:
    slope = -round(math.log2(NEGATIVE_SLOPE))
    layers: list[Any] = []
    fraction = 0  # z is integer
    chosen = [fraction]
    for i, features in enumerate(config.hyper.synthesis):
        rows = _node_rows(params[f"rows_{i}"], features)
        offsets = np.abs(rows[:, features:]).max()
        reach = max(ranges[f"conv_{i}_out"], ranges[f"film_{i}_out"], float(offsets))
        conv = params[f"conv_{i}"]
        # Large weights on small activations: a shift cannot be negative.
        out = min(_fraction_bits(reach * _HEADROOM), fraction + _weight_bits(conv))
        layers.append(_conv(conv, fraction, out))
        if i > 0:
            layers.append(DepthToSpace(2))
        layers.append(LeakyRelu(slope))
        layers.append(_film(rows, out, stride=HYPER_STRIDE >> i))
        fraction = out
        chosen.append(out)
    conv = params["conv_3"]
    out = min(_fraction_bits(ranges["conv_3_out"] * _HEADROOM), fraction + _weight_bits(conv))
    layers += [_conv(conv, fraction, out), LeakyRelu(slope)]
    layers.append(_conv(params["conv_4"], out, PRIOR_BITS))
    return tuple(layers), [*chosen, out, PRIOR_BITS]


def _context_layers(
    config: ModelConfig, params: Any, ranges: dict[str, float]
) -> tuple[tuple[Any, ...], list[int]]:
    slope = -round(math.log2(NEGATIVE_SLOPE))
    width = config.hyper.context
    rows = _node_rows(params["rows_0"], width)
    conv_out, film_out, last = (
        ranges[f"context_{name}_out"] for name in ("conv_0", "film_0", "conv_1")
    )
    reach = max(conv_out, film_out, float(np.abs(rows[:, width:]).max()))
    first = min(_fraction_bits(reach * _HEADROOM), VALUE_BITS + _weight_bits(params["conv_0"]))
    second = min(_fraction_bits(last * _HEADROOM), first + _weight_bits(params["conv_1"]))
    layers = (
        _conv(params["conv_0"], VALUE_BITS, first),
        LeakyRelu(slope),
        _film(rows, first, stride=1),
        _conv(params["conv_1"], first, second),
        LeakyRelu(slope),
        _conv(params["conv_2"], second, PRIOR_BITS),
    )
    return layers, [VALUE_BITS, first, second, PRIOR_BITS]


def _rounded(values: Any, bits: int, what: str) -> np.ndarray:
    array = np.floor(np.asarray(values, np.float64) * 2.0**bits + 0.5)
    if not np.isfinite(array).all() or np.abs(array).max() > _INT16:
        raise BundleError(f"{what}: does not fit 16 bits")
    return array.astype(np.int16)


def _fraction_bits(reach: float) -> int:
    """Most fraction bits with which a magnitude of `reach` fits 16 bits, 0 to 14."""
    if not math.isfinite(reach):
        raise BundleError(f"a range of the hyper-synthesis is {reach}")
    return min(max(math.floor(math.log2(_INT16 / max(reach, 1e-9))), 0), _MAX_FRACTION)


def _weight_bits(params: Any) -> int:
    """Most fraction bits with which a convolution's weights fit 16 bits."""
    kernel = np.asarray(params["conv"]["kernel"], np.float64)
    if not np.isfinite(kernel).all():
        raise BundleError("a weight of the hyper-synthesis is not finite")
    largest = max(float(np.abs(kernel).max()), 1e-9)
    return min(math.floor(math.log2(_INT16 / largest)), _MAX_WEIGHT_FRACTION)


def _conv(params: Any, fraction_in: int, fraction_out: int) -> Conv:
    bits = _weight_bits(params)
    kernel = np.asarray(params["conv"]["kernel"], np.float64)
    bias = np.asarray(params["conv"]["bias"], np.float64)
    if not np.isfinite(bias).all():
        raise BundleError("a bias of the hyper-synthesis is not finite")
    if fraction_in + bits < fraction_out:
        raise BundleError(f"weights up to {np.abs(kernel).max():g} are too large for 16 bits")
    weight = np.floor(kernel * 2.0**bits + 0.5).astype(np.int16)
    offset = np.floor(bias * 2.0 ** (fraction_in + bits) + 0.5).astype(np.int64)
    return Conv(weight, offset, shift=fraction_in + bits - fraction_out)


def _node_rows(params: Any, features: int) -> np.ndarray:
    """Gain and offset of every node, float64 [1024, 2 features]."""
    rows = NodeRows(features).apply({"params": params}, np.arange(NODE_COUNT)[None])
    return np.asarray(rows[0], np.float64)


def _film(rows: np.ndarray, fraction: int, stride: int) -> Film:
    features = rows.shape[1] // 2
    gain_bits = _fraction_bits(float(np.abs(rows[:, :features]).max()))
    gain = np.floor(rows[:, :features] * 2.0**gain_bits + 0.5)
    offset = np.floor(rows[:, features:] * 2.0**fraction + 0.5)
    table = np.concatenate([gain, offset], axis=1)
    if not np.isfinite(table).all() or np.abs(table).max() > _INT16:
        raise BundleError("a FiLM row of the hyper-synthesis does not fit 16 bits")
    return Film(table.astype(np.int16), gain_bits, stride)


def _hyper_tables(params: Any) -> StaticTables:
    mean = np.asarray(params["mean"], np.float64)
    log_scale = np.asarray(params["log_scale"], np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(log_scale).all()):
        raise BundleError("the prior of the hyper-latents has parameters that are not finite")
    scale = np.exp(np.clip(log_scale, LOG_SCALE_MIN, LOG_SCALE_MAX))
    channels = mean.shape[-1]
    mean, scale = mean.reshape(-1, channels), scale.reshape(-1, channels)  # classes and contexts
    tables = range(mean.shape[0])
    return StaticTables.build(
        [[_logistic(mean[k, c], scale[k, c]) for k in tables] for c in range(channels)]
    )


def _logistic(mean: float, scale: float) -> tuple[int, np.ndarray]:
    """(least value, probabilities) of a rounded logistic, without its far tails."""
    reach = math.ceil(scale * -math.log(_TAIL)) + 1
    k = np.arange(math.floor(mean) - reach, math.ceil(mean) + reach + 1, dtype=np.float64)
    size = np.abs(k - mean)
    upper, lower = (1.0 / (1.0 + np.exp((size - half) / scale)) for half in (0.5, -0.5))
    probability = upper - lower
    keep = np.flatnonzero(probability >= _TAIL)
    first, last = keep[0], keep[-1] + 1
    return int(k[first]), probability[first:last]
