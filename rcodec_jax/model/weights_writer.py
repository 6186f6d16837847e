"""Writing a folder of weights (see `weights`), one tensor at a time."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from rcodec_jax.config import to_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import WeightsError
from rcodec_jax.files import write_json
from rcodec_jax.model.networks import parameter_shapes
from rcodec_jax.model.tensorstream import as_bytes, dtype_name, header_size, write_header
from rcodec_jax.model.weights import (
    FLOATS,
    INDEX,
    MANIFEST,
    SHARD_NAME,
    WEIGHTS_VERSION,
    read_statistics,
)

SHARD_BYTES = 2**31
_HEADER_ROOM = 2**19
"""Bytes left free for a shard's header, which is known only when its last tensor is."""


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
        read_statistics(self._manifest, config)
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
            if SHARD_NAME.fullmatch(path.name):
                path.unlink()
        weight_map: dict[str, str] = {}
        for i, shard in enumerate(self._shards, 1):
            name = f"model-{i:05}-of-{len(self._shards):05}.safetensors"
            os.replace(self._part(i), self._folder / name)
            weight_map |= dict.fromkeys(shard, name)
        index = {"metadata": {"total_size": self._bytes}, "weight_map": weight_map}
        for name, content in ((INDEX, index), (MANIFEST, self._manifest)):
            write_json(self._folder / name, content)

    def _close_shard(self) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        self._file.write(write_header(self._shards[-1], _HEADER_ROOM))
        self._file.close()
        self._file = None

    def _part(self, number: int) -> Path:
        return self._folder / f"model-{number:05}.part"
