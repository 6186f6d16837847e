"""The integer part as bytes: names, architecture and checks (format in bitstream/FORMAT.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rcodec_jax.entropy.distributions.centroids import Centroids
from rcodec_jax.entropy.distributions.gaussian import SIGMA_LEVELS, STORED_DITHERS, GaussianTables
from rcodec_jax.entropy.distributions.static import StaticTables
from rcodec_jax.entropy.integer.context import ContextModel
from rcodec_jax.entropy.integer.layers import Conv, DepthToSpace, Film, Layer, LeakyRelu
from rcodec_jax.entropy.integer.network import MAX_LAYERS, IntegerNetwork
from rcodec_jax.entropy.integer.tensorfile import load_tensors, save_tensors
from rcodec_jax.errors import BundleError

METADATA_KEY = "rcodec.integer_part"
PART_VERSION = 0
SIGHTS = ("node", "map")
"""What networks and tables of z may see of the levels: the picture's timestep, and its map."""

MAX_SKIP = (1 << 16) - 1

_NUMBERS = ("latent_channels", "hyper_channels", "hyper_stride")
_OPTIONAL = {"context", "sees", "skip"}
_NODE_TENSORS = ("node_log2_s", "node_class")
_HYPER_WEIGHT = "hyper.weight"
_CENTROIDS = "centroids"
_CONTEXT = "context."
_CONTEXT_TENSORS = ("gain", "step")
_KINDS: dict[str, tuple[str, ...]] = {
    "conv": ("shift",),
    "leaky_relu": ("slope_log2",),
    "film": ("gain_bits", "stride"),
    "depth_to_space": ("block",),
}


def serialise(fields: Mapping[str, Any]) -> bytes:
    """Bytes of the fields of IntegerPart by name, always the same for the same fields."""
    tensors = {name: fields[name] for name in _NODE_TENSORS}
    gaussian: GaussianTables = fields["gaussian"]
    hyper: StaticTables = fields["hyper_tables"]
    for prefix, bank, shape in (
        ("gaussian", gaussian.bank, (SIGMA_LEVELS, STORED_DITHERS)),
        ("hyper", hyper.bank, (hyper.channels, hyper.classes)),
    ):
        tensors[f"{prefix}.minimum"] = bank.minimum.astype(np.int16).reshape(shape)
        tensors[f"{prefix}.count"] = bank.count.astype(np.uint16).reshape(shape)
        tensors[f"{prefix}.freq"] = bank.listed.astype(np.uint16)
    description: dict[str, object] = {
        "version": PART_VERSION,
        **{name: int(fields[name]) for name in _NUMBERS},
        "layers": _serialise_network(fields["network"], "", tensors),
    }
    if fields["sees"] != SIGHTS:  # an ablation
        description["sees"] = list(fields["sees"])
    if fields["skip"]:
        description["skip"] = int(fields["skip"])
    if fields["hyper_weight"] is not None:
        tensors[_HYPER_WEIGHT] = fields["hyper_weight"]
    if fields["centroids"] is not None:
        tensors[_CENTROIDS] = fields["centroids"].table
    context: ContextModel | None = fields["context"]
    if context is not None:
        description["context"] = _serialise_network(context.network, _CONTEXT, tensors)
        tensors |= {f"{_CONTEXT}{name}": getattr(context, name) for name in _CONTEXT_TENSORS}
    text = json.dumps(description, separators=(",", ":"), sort_keys=True)
    return save_tensors(tensors, {METADATA_KEY: text})


def _serialise_network(
    network: IntegerNetwork, prefix: str, tensors: dict[str, np.ndarray]
) -> list[dict[str, object]]:
    """Descriptions of the layers; their arrays go to `tensors`."""
    layers: list[dict[str, object]] = []
    for number, layer in enumerate(network.layers):
        name = f"{prefix}layers.{number}"
        if isinstance(layer, Conv):
            layers.append({"kind": "conv", "shift": layer.shift})
            tensors[f"{name}.weight"] = layer.weight
            tensors[f"{name}.bias"] = layer.bias
        elif isinstance(layer, LeakyRelu):
            layers.append({"kind": "leaky_relu", "slope_log2": layer.slope_log2})
        elif isinstance(layer, Film):
            layers.append({"kind": "film", "gain_bits": layer.gain_bits, "stride": layer.stride})
            tensors[f"{name}.rows"] = layer.rows
        else:
            layers.append({"kind": "depth_to_space", "block": layer.block})
    return layers


def parse(blob: bytes) -> dict[str, Any]:
    """Fields of IntegerPart from bytes that may be hostile.

    Raises:
      BundleError: malformed or unknown.
    """
    tensors, metadata = load_tensors(blob)
    try:
        description = json.loads(metadata.get(METADATA_KEY, ""))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"integer part: metadata {METADATA_KEY} is missing or bad") from error
    wanted = {"version", "layers", *_NUMBERS}
    if not isinstance(description, dict) or set(description) - _OPTIONAL != wanted:
        raise BundleError("integer part: the description has missing or unknown fields")
    if description["version"] != PART_VERSION:
        raise BundleError(
            f"integer part: version {description['version']!r} is unknown, expected {PART_VERSION}"
        )
    numbers: dict[str, Any] = {name: description[name] for name in _NUMBERS}
    if not all(type(n) is int and 1 <= n <= 4096 for n in numbers.values()):
        raise BundleError(f"integer part: sizes must be 1..4096, got {numbers}")
    if "sees" in description:
        numbers["sees"] = _sights(description["sees"])
    if "skip" in description:
        numbers["skip"] = skip = description["skip"]
        if type(skip) is not int or not 1 <= skip <= MAX_SKIP:
            raise BundleError(f"integer part: skip must be 1..{MAX_SKIP}, got {str(skip)[:80]}")
    numbers["network"] = _network(description["layers"], "", tensors)
    if "context" in description:
        network = _network(description["context"], _CONTEXT, tensors)
        arrays = {name: _take(tensors, f"{_CONTEXT}{name}") for name in _CONTEXT_TENSORS}
        numbers["context"] = ContextModel(network, **arrays)
    if _HYPER_WEIGHT in tensors:
        numbers["hyper_weight"] = _take(tensors, _HYPER_WEIGHT)
    if _CENTROIDS in tensors:
        numbers["centroids"] = Centroids(_take(tensors, _CENTROIDS))
    numbers["gaussian"] = GaussianTables(*_take_tables(tensors, "gaussian"))
    numbers["hyper_tables"] = StaticTables(*_take_tables(tensors, "hyper"))
    for name in _NODE_TENSORS:
        numbers[name] = _take(tensors, name)
    if tensors:
        raise BundleError(f"integer part: unknown tensors {sorted(tensors)[:4]}")
    return numbers


def _sights(sees: object) -> tuple[str, ...]:
    # Written one way only: in order, and not at all where all is seen.
    for allowed in ((), *((one,) for one in SIGHTS)):
        if sees == list(allowed):
            return allowed
    raise BundleError(f"integer part: sees must be [] or one of {SIGHTS}, got {str(sees)[:80]}")


def _take(tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise BundleError(f"integer part: tensor {name} is missing")
    return tensors.pop(name)


def _take_tables(tensors: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """minimum, count and freq; in wider types than these their sums could overflow unseen."""
    arrays = []
    for name, kind in (("minimum", np.int16), ("count", np.uint16), ("freq", np.uint16)):
        array = _take(tensors, f"{prefix}.{name}")
        if array.dtype != kind:
            raise BundleError(
                f"integer part: {prefix}.{name} must be {np.dtype(kind)}, got {array.dtype}"
            )
        arrays.append(array)
    return arrays


def _network(entries: object, prefix: str, tensors: dict[str, np.ndarray]) -> IntegerNetwork:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        raise BundleError(f"integer part: need 1..{MAX_LAYERS} layers")
    return IntegerNetwork([_layer(n, entry, prefix, tensors) for n, entry in enumerate(entries)])


def _layer(number: int, entry: object, prefix: str, tensors: dict[str, np.ndarray]) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise BundleError(f"integer part: layer {number} is malformed")
    kind = entry["kind"]
    if kind not in _KINDS or set(entry) != {"kind", *_KINDS[kind]}:
        raise BundleError(f"integer part: layer {number} is of unknown kind or has other fields")
    values = {name: entry[name] for name in _KINDS[kind]}
    if not all(type(value) is int for value in values.values()):
        raise BundleError(f"integer part: layer {number} has a value that is not an integer")
    name = f"{prefix}layers.{number}"
    if kind == "conv":
        weight = _take(tensors, f"{name}.weight")
        return Conv(weight, _take(tensors, f"{name}.bias"), **values)
    if kind == "film":
        return Film(_take(tensors, f"{name}.rows"), **values)
    return LeakyRelu(**values) if kind == "leaky_relu" else DepthToSpace(**values)
