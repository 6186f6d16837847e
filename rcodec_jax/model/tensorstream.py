"""Safetensors files one tensor at a time: large models neither need twice their size in memory nor
stay mapped. Floats and integers of 8 and 32 bits; bfloat16 through ml_dtypes, which the safetensors
package's NumPy side does not know. Any safetensors reader can open what is written here, and the
other way round.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from rcodec_jax.entropy.integer import tensorfile
from rcodec_jax.entropy.integer.tensorfile import Entry as Entry
from rcodec_jax.errors import RcodecError
from rcodec_jax.limits import MAX_JSON_BYTES

_DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
}
_READ = _DTYPES | {"I64": np.dtype("<i8")}  # of others' files, which count batches in it
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


Described = Mapping[str, tuple[np.dtype, tuple[int, ...]]]
"""Dtype and shape of tensors by name, in the order in which they lie."""


def write_tensors(path: Path, tensors: Described, arrays: Iterable[np.ndarray]) -> Any:
    """Writes a file, a tensor at a time.

    Args:
      path: of the file.
      tensors: what it holds.
      arrays: their values in the same order, of these dtypes and shapes.

    Returns:
      SHA-256 of the file, a hash of `hashlib` to go on from.

    Raises:
      RcodecError: a dtype that is none of float32, float16, bfloat16, int32 and int8.
    """
    digest = hashlib.sha256()
    pieces: Iterable[bytes | memoryview]
    pieces = itertools.chain([write_header(tensors)], map(as_bytes, arrays))
    with path.open("wb") as file:
        for data in pieces:
            file.write(data)
            digest.update(data)
    return digest


def write_header(tensors: Described, room: int = 0) -> bytes:
    """The beginning of a file whose tensors follow in the given order, without gaps.

    Args:
      tensors: dtype and shape by name.
      room: bytes the header fills, spaces after it; 0 for as few as there must be.

    Raises:
      RcodecError: a dtype that is none of float32, float16, bfloat16, int32 and int8.
    """
    entries, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": dtype_name(dtype, name),
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    length = max(room - 8, len(text) + -len(text) % 8)
    if room and len(text) > length:
        raise RcodecError(f"a header of {len(text)} bytes does not fit {room}")
    return length.to_bytes(8, "little") + text.ljust(length)


def header_size(name: str) -> int:
    """Bytes of a header that one tensor of up to 8 dimensions takes at most."""
    return len(json.dumps(name, ensure_ascii=False).encode()) + 250


def dtype_name(dtype: np.dtype, tensor: str) -> str:
    """The format's name of a dtype.

    Raises:
      RcodecError: one that is not stored.
    """
    if dtype not in _NAMES:
        kinds = ", ".join(str(known) for known in _NAMES)
        raise RcodecError(f"tensor {tensor}: expected one of {kinds}, got {dtype}")
    return _NAMES[dtype]


def read_header(file: BinaryIO, size: int) -> tuple[bytes, dict[str, Entry]]:
    """Reads and checks the beginning of a file; trusts nothing.

    Args:
      file: at its start.
      size: bytes of the whole file.

    Returns:
      (the header's bytes, entries by name in the order in which the tensors lie).

    Raises:
      RcodecError: anything is malformed.
    """
    data, _, entries = tensorfile.read_header(file, size, _READ, MAX_JSON_BYTES)
    return data, entries


def read_tensor(file: BinaryIO, entry: Entry) -> np.ndarray:
    """Reads one tensor into memory of its own.

    Raises:
      RcodecError: the file ends before it does.
    """
    array = np.empty(entry.shape, entry.dtype)
    file.seek(entry.start)
    if file.readinto(as_bytes(array)) != entry.size:  # type: ignore[attr-defined]
        raise RcodecError(f"the file ends before byte {entry.start + entry.size}")
    return array


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array as they are stored; of a contiguous one without a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
