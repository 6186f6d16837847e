"""Safetensors files one tensor at a time: large models neither need twice their size in memory nor
stay mapped. Floats and integers of 8 and 32 bits; bfloat16 through ml_dtypes, which the safetensors
package's NumPy side does not know. Any safetensors reader can open what is written here, and the
other way round.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from rcodec_jax.errors import RcodecError

MAX_HEADER_BYTES = 2**24
_MAX_DIMENSIONS = 8
_DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a tensor lies in a file.

    Attributes:
      dtype, shape: of the tensor.
      start: first byte, from the beginning of the file.
      size: in bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    size: int


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
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise RcodecError(f"no safetensors file: a header of {length} bytes in {size}")
    text = file.read(length)
    try:
        # Undecodable text and JSON nested too deep included.
        raw = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RcodecError("no safetensors file: its header is not JSON") from error
    if not isinstance(raw, dict):
        raise RcodecError("no safetensors file: its header is not an object")
    raw.pop("__metadata__", None)
    entries = {name: _entry(name, value, size, 8 + length) for name, value in raw.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)))
    end = 8 + length
    for entry in entries.values():
        if entry.start != end:
            raise RcodecError("tensors share bytes or leave some between them")
        end += entry.size
    if end != size:
        raise RcodecError(f"{size} bytes for tensors that end at {end}")
    return first + text, entries


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


def _entry(name: str, value: object, size: int, data: int) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise RcodecError(f"tensor {name}: malformed entry")
    kind, shape, span = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise RcodecError(f"tensor {name}: expected a dtype of {', '.join(_DTYPES)}, got {kind!r}")
    if not (_sizes(shape, size) and len(shape) <= _MAX_DIMENSIONS):
        raise RcodecError(f"tensor {name}: malformed shape")
    if not (_sizes(span, size) and len(span) == 2):
        raise RcodecError(f"tensor {name}: malformed offsets")
    dtype = _DTYPES[kind]
    if span[1] - span[0] != math.prod(shape) * dtype.itemsize:
        raise RcodecError(f"tensor {name}: offsets {span} do not match shape {shape}")
    return Entry(dtype, tuple(shape), data + span[0], span[1] - span[0])


def _sizes(numbers: object, most: int) -> bool:
    """Whether these are whole numbers in 0..most."""
    return isinstance(numbers, Sequence) and all(
        type(number) is int and 0 <= number <= most for number in numbers
    )
