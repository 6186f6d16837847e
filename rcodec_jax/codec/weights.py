"""A folder of weights: the float parameters of a model, to train on, to freeze or to convert.

    weights.json                       the model, statistics of its latent, where it comes from
    model.safetensors.index.json       which file holds which tensor, as Hugging Face lays it out
    model-00001-of-0000N.safetensors   tensors by path, "unet/conv_in/conv/kernel"

Both ways go one tensor at a time. Nothing in a folder can execute; a folder without weights.json is
none, and that is written last.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from rcodec_jax.codec.bundle import unflatten
from rcodec_jax.codec.networks import RANGES, parameter_shapes
from rcodec_jax.codec.tensorstream import (
    Entry,
    as_bytes,
    dtype_name,
    header_size,
    read_header,
    read_tensor,
    write_header,
)
from rcodec_jax.config import from_dict, to_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import RcodecError, UsageError, WeightsError

MANIFEST = "weights.json"
INDEX = "model.safetensors.index.json"
WEIGHTS_VERSION = 0
FLOATS = ("float32", "float16", "bfloat16")
SHARD_BYTES = 2**31
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_HEADER_ROOM = 2**19
"""Bytes left free for a shard's header, which is known only when its last tensor is."""

_MAX_JSON_BYTES = 2**24


class WeightsWriter:
    """Writes a folder of weights, one tensor at a time.

    A context manager: the folder becomes valid when the block ends, with all tensors of the model
    in it; where it ends in an error, what was there before stays as it was.

    Args:
      folder: made if it is missing; weights that it held are replaced.
      config: the model's shape.
      shift: mean of the encoder's output by channel [C].
      power: its mean variance; y = (encoder output - shift) / sqrt(power).
      ranges: largest magnitude of each activation of the hyper-synthesis; None if nobody tracked
        them, then freezing measures them.
      source: where the weights come from, any JSON object.
      card: entries for the card of a bundle made from them.
      shard_bytes: a file is closed before it grows beyond this.

    Raises:
      WeightsError: statistics that do not fit the model.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        config: ModelConfig,
        *,
        shift: np.ndarray,
        power: float,
        ranges: dict[str, float] | None = None,
        source: dict[str, Any] | None = None,
        card: dict[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._folder = Path(folder)
        self._shapes = parameter_shapes(config)
        self._shard_bytes = shard_bytes
        self._manifest = {
            "weights_version": WEIGHTS_VERSION,
            "model": to_dict(config),
            "latent": {"shift": np.asarray(shift, np.float64).tolist(), "power": float(power)},
            "ranges": None if ranges is None else {k: float(v) for k, v in ranges.items()},
            "source": source or {},
            "card": card or {},
        }
        _statistics(self._manifest, config)
        self._shards: list[dict[str, tuple[np.dtype, tuple[int, ...]]]] = []
        self._file: BinaryIO | None = None
        self._room = 0
        self._left = 0
        self._bytes = 0

    def __enter__(self) -> WeightsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, name: str, array: np.ndarray) -> None:
        """Writes one tensor.

        Args:
          name: its path, "unet/conv_in/conv/kernel".
          array: float32, float16 or bfloat16, kept as it is.

        Raises:
          WeightsError: a tensor that the model does not have, of another shape or dtype, or one
            written before.
        """
        array = np.asarray(array)
        expected = self._shapes.get(name)
        if expected is None:
            raise WeightsError(f"tensor {name}: the model has none of that name")
        if array.shape != expected:
            raise WeightsError(f"tensor {name}: expected shape {expected}, got {array.shape}")
        if any(name in shard for shard in self._shards):
            raise WeightsError(f"tensor {name}: written twice")
        if array.dtype.name not in FLOATS:
            raise WeightsError(
                f"tensor {name}: expected one of {', '.join(FLOATS)}, got {array.dtype}"
            )
        dtype_name(array.dtype, name)  # raises on another order of bytes
        described = header_size(name)
        if self._file is None or array.nbytes > self._left or described > self._room:
            self._close_shard()
            self._shards.append({})
            self._file = self._part(len(self._shards)).open("wb")
            self._file.seek(_HEADER_ROOM)
            self._room, self._left = _HEADER_ROOM - 16, self._shard_bytes - _HEADER_ROOM
        self._file.write(as_bytes(array))
        self._shards[-1][name] = (array.dtype, array.shape)
        self._room -= described
        self._left -= array.nbytes
        self._bytes += array.nbytes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close_shard()
            if kind is None:
                self._finish()
        finally:
            for i in range(len(self._shards)):
                self._part(i + 1).unlink(missing_ok=True)

    def _finish(self) -> None:
        written = {name for shard in self._shards for name in shard}
        missing = [name for name in self._shapes if name not in written]
        if missing:
            raise WeightsError(
                f"{len(missing)} tensors of the model are missing: {', '.join(missing[:5])}"
                + (", ..." if len(missing) > 5 else "")
            )
        (self._folder / MANIFEST).unlink(missing_ok=True)  # from here on it is none
        for path in self._folder.iterdir():
            if _SHARD.fullmatch(path.name):
                path.unlink()
        weight_map: dict[str, str] = {}
        for i, shard in enumerate(self._shards, 1):
            name = f"model-{i:05}-of-{len(self._shards):05}.safetensors"
            os.replace(self._part(i), self._folder / name)
            weight_map |= dict.fromkeys(shard, name)
        index = {"metadata": {"total_size": self._bytes}, "weight_map": weight_map}
        for name, content in ((INDEX, index), (MANIFEST, self._manifest)):
            part = self._folder / f"{name}.part"
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            os.replace(part, self._folder / name)

    def _close_shard(self) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        self._file.write(write_header(self._shards[-1], _HEADER_ROOM))
        self._file.close()
        self._file = None

    def _part(self, number: int) -> Path:
        return self._folder / f"model-{number:05}.part"


class Weights:
    """A folder of weights, checked against its model, its tensors still on disk.

    Attributes:
      config: the model's shape.
      shift: mean of the encoder's output by channel, float32 [C].
      power: its mean variance.
      ranges: see `WeightsWriter`; None if nobody tracked them.
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
            self.shift, self.power, self.ranges = _statistics(manifest, self.config)
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
        if not _SHARD.fullmatch(name):  # a path out of the folder, most of all
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


def _statistics(
    manifest: dict[str, Any], config: ModelConfig
) -> tuple[np.ndarray, float, dict[str, float] | None]:
    latent, ranges = manifest.get("latent"), manifest.get("ranges")
    try:
        shift = np.asarray(latent["shift"], np.float32)  # type: ignore[index]
        power = float(latent["power"])  # type: ignore[index]
        if ranges is not None:
            ranges = {name: float(ranges[name]) for name in RANGES}
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
            data = file.read(_MAX_JSON_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_JSON_BYTES:
        raise WeightsError(f"{path}: more than {_MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected an object")
    return value
