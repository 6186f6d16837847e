"""A folder of weights: the float parameters of a model, to train on, to freeze or to convert.

    weights.json                       the model, statistics of its latent, where it comes from
    model.safetensors.index.json       which file holds which tensor, as Hugging Face lays it out
    model-00001-of-0000N.safetensors   tensors by path, "unet/conv_in/conv/kernel"

Read one tensor at a time, as `weights_writer` writes it. Nothing in a folder can execute; a folder
without weights.json is none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.config import from_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import RcodecError, UsageError, WeightsError
from rcodec_jax.limits import MAX_JSON_BYTES
from rcodec_jax.model.networks import parameter_shapes, tracked_ranges
from rcodec_jax.model.tensorstream import Entry, read_header, read_tensor
from rcodec_jax.model.trees import unflatten

MANIFEST = "weights.json"
INDEX = "model.safetensors.index.json"
WEIGHTS_VERSION = 0
FLOATS = ("float32", "float16", "bfloat16")
SHARD_NAME = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


class Weights:
    """A folder of weights, checked against its model, its tensors still on disk.

    Attributes:
      config: the model's shape.
      shift: mean of the encoder's output by channel, float32 [C].
      power: its mean variance.
      ranges: as `WeightsWriter` has them; None if nobody tracked them.
      source, card: as given when they were written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Reads what describes the tensors; see `open_weights`."""
        folder = Path(folder)
        if not folder.is_dir():
            raise WeightsError(f"expected a folder of weights, got {str(folder)!r}")
        path = folder / MANIFEST
        manifest = _read_json(path)
        if manifest.get("weights_version") != WEIGHTS_VERSION:
            raise WeightsError(
                f"{path}: expected weights version {WEIGHTS_VERSION}, "
                f"got {manifest.get('weights_version')!r}"
            )
        try:
            self.config = from_dict(ModelConfig, manifest.get("model", {}))
            self.shift, self.power, self.ranges = read_statistics(manifest, self.config)
        except (UsageError, WeightsError) as error:
            raise WeightsError(f"{path}: {error}") from error
        self.source, self.card = (_object(manifest, key, path) for key in ("source", "card"))
        self._where = _locate(folder)
        shapes = parameter_shapes(self.config)
        _compare(folder, {name: entry.shape for name, (_, entry) in self._where.items()}, shapes)
        self._names = tuple(shapes)

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of all tensors."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._where[name][1].shape

    def dtype(self, name: str) -> np.dtype:
        """Dtype a tensor is stored in: float32, float16 or bfloat16."""
        return self._where[name][1].dtype

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as it is stored, into memory of its own.

        Raises:
          WeightsError: the file is gone or shorter than it was.
        """
        path, entry = self._where[name]
        try:
            with path.open("rb") as file:
                return read_tensor(file, entry)
        except (OSError, RcodecError) as error:
            raise WeightsError(f"{path}: cannot be read: {error}") from error

    def params(self) -> dict[str, Any]:
        """All tensors as they are stored, nested by part: what the networks take."""
        return unflatten({name: self.read(name) for name in self._names})

    def stored(self) -> dict[str, Any]:
        """The same tree, its leaves still on disk: `np.asarray` of a leaf reads it."""
        return unflatten({name: Stored(self, name) for name in self._names})


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor on disk that is read when it is made an array, each time anew."""

    weights: Weights
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.weights.shape(self.name)

    @property
    def dtype(self) -> np.dtype:
        """Dtype it is stored in."""
        return self.weights.dtype(self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.weights.read(self.name)
        return array if dtype is None else array.astype(dtype, copy=False)


def open_weights(folder: str | os.PathLike[str]) -> Weights:
    """Opens a folder of weights, reading headers only.

    Raises:
      WeightsError: no weights there, damaged ones, or tensors that are not those of the model.
    """
    return Weights(folder)


def is_weights(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder says that it holds weights."""
    return (Path(folder) / MANIFEST).is_file()


def _locate(folder: Path) -> dict[str, tuple[Path, Entry]]:
    """File and place of each tensor, by the index and by the files' own headers."""
    path = folder / INDEX
    weight_map = _object(_read_json(path), "weight_map", path)
    where: dict[str, tuple[Path, Entry]] = {}
    for name in sorted({str(value) for value in weight_map.values()}):
        if not SHARD_NAME.fullmatch(name):  # a path out of the folder, most of all
            raise WeightsError(
                f"{path}: expected files model-NNNNN-of-NNNNN.safetensors, got {name!r}"
            )
        shard = folder / name
        try:
            with shard.open("rb") as file:
                _, entries = read_header(file, shard.stat().st_size)
        except (OSError, RcodecError) as error:
            raise WeightsError(f"{shard}: cannot be read: {error}") from error
        for tensor, entry in entries.items():
            if weight_map.get(tensor) != name:
                raise WeightsError(f"{path}: tensor {tensor} of {name} is not listed as its own")
            if entry.dtype.name not in FLOATS:
                raise WeightsError(f"{shard}: tensor {tensor} is {entry.dtype}, no float")
            where[tensor] = (shard, entry)
    for tensor in weight_map:
        if tensor not in where:
            raise WeightsError(f"{path}: tensor {tensor} is not in {weight_map[tensor]}")
    return where


def _compare(
    folder: Path, given: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
) -> None:
    for what, names in (
        ("missing", expected.keys() - given.keys()),
        ("unknown", given.keys() - expected.keys()),
    ):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            raise WeightsError(f"{folder}: {len(names)} tensors {what}: {listed}")
    for name, shape in expected.items():
        if given[name] != shape:
            raise WeightsError(
                f"{folder}: tensor {name}: expected shape {shape}, got {given[name]}"
            )


def read_statistics(
    manifest: dict[str, Any], config: ModelConfig
) -> tuple[np.ndarray, float, dict[str, float] | None]:
    """Shift, power and ranges of a manifest.

    Raises:
      WeightsError: they are missing, malformed or do not fit the model.
    """
    latent, ranges = manifest.get("latent"), manifest.get("ranges")
    try:
        shift = np.asarray(latent["shift"], np.float32)  # type: ignore[index]
        power = float(latent["power"])  # type: ignore[index]
        if ranges is not None:
            ranges = {name: float(ranges[name]) for name in tracked_ranges(config)}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"malformed latent or ranges: {error!r}") from error
    if shift.shape != (config.latent_channels,) or not np.isfinite(shift).all():
        raise WeightsError(
            f"expected a finite shift for {config.latent_channels} channels of the latent, "
            f"got shape {shift.shape}"
        )
    if not (math.isfinite(power) and power > 0):
        raise WeightsError(f"expected a power of the latent above 0, got {power}")
    if ranges is not None and not all(0 <= v < math.inf for v in ranges.values()):
        raise WeightsError(f"expected finite ranges of at least 0, got {ranges}")
    return shift, power, ranges


def _object(parent: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected {key} to be an object, got {type(value).__name__}")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_JSON_BYTES:
        raise WeightsError(f"{path}: more than {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected an object")
    return value
