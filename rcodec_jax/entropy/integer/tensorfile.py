"""Named integer arrays in the safetensors layout: the same bytes for the same arrays.

Written out here because the digest of a model is the hash of these bytes: their order and padding
must not depend on a library's version. Any safetensors reader can open the result.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from rcodec_jax.errors import BundleError, RcodecError
from rcodec_jax.limits import MAX_DIMENSIONS

_TEXTS = {"U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "I64": "<i8"}
_DTYPES = {name: np.dtype(text) for name, text in _TEXTS.items()}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER_BYTES = 1 << 20


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


def save_tensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Serialises arrays, in the order of their alignment (widest first) and names.

    Args:
      tensors: uint8, int16, uint16, int32 or int64 arrays.
      metadata: texts stored beside them.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    chunks, offset = [], 0
    for name in sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key)):
        array = np.ascontiguousarray(tensors[name])
        kind = _NAMES.get(array.dtype)
        if kind is None:
            raise BundleError(f"tensor {name}: dtype {array.dtype} cannot be stored")
        chunk = array.astype(_DTYPES[kind]).tobytes()
        entries[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    header = json.dumps(entries, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *chunks])


def load_tensors(blob: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what `save_tensors` wrote; trusts nothing.

    Returns:
      (tensors, metadata); the arrays are read-only views of the bytes.

    Raises:
      BundleError: anything is malformed.
    """
    try:
        _, metadata, entries = read_header(io.BytesIO(blob), len(blob), _DTYPES, _MAX_HEADER_BYTES)
    except RcodecError as error:
        raise BundleError(f"integer part: {error}") from error
    tensors = {}
    for name, entry in entries.items():
        if not entry.size:
            raise BundleError(f"tensor {name}: empty, of shape {entry.shape}")
        values = np.frombuffer(blob, entry.dtype, math.prod(entry.shape), entry.start)
        tensors[name] = values.reshape(entry.shape)
    return tensors, metadata


def read_header(
    file: BinaryIO, size: int, dtypes: Mapping[str, np.dtype], most: int
) -> tuple[bytes, dict[str, str], dict[str, Entry]]:
    """Reads and checks the beginning of a safetensors file; trusts nothing.

    Args:
      file: at its start.
      size: bytes of the whole file.
      dtypes: what tensors may have, by the format's names.
      most: longest header, in bytes.

    Returns:
      (the header's bytes, metadata, entries by name in the order in which the tensors lie).

    Raises:
      RcodecError: anything is malformed.
    """
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(size - 8, most):
        raise RcodecError(f"no safetensors file: a header of {length} bytes in {size}")
    text = file.read(length)
    try:
        # Undecodable text and JSON nested too deep included.
        raw = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RcodecError("no safetensors file: its header is not JSON") from error
    if not isinstance(raw, dict):
        raise RcodecError("no safetensors file: its header is not an object")
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise RcodecError("no safetensors file: metadata must be texts")
    entries = {name: _entry(name, value, size, 8 + length, dtypes) for name, value in raw.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)))
    end = 8 + length
    for entry in entries.values():
        if entry.start != end:
            raise RcodecError("tensors share bytes or leave some between them")
        end += entry.size
    if end != size:
        raise RcodecError(f"{size} bytes for tensors that end at {end}")
    return first + text, metadata, entries


def _entry(name: str, value: object, size: int, data: int, dtypes: Mapping[str, np.dtype]) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise RcodecError(f"tensor {name}: malformed entry")
    kind, shape, span = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in dtypes:
        raise RcodecError(f"tensor {name}: expected a dtype of {', '.join(dtypes)}, got {kind!r}")
    if not (_sizes(shape, size) and len(shape) <= MAX_DIMENSIONS):
        raise RcodecError(f"tensor {name}: malformed shape")
    if not (_sizes(span, size) and len(span) == 2):
        raise RcodecError(f"tensor {name}: malformed offsets")
    dtype = dtypes[kind]
    if span[1] - span[0] != math.prod(shape) * dtype.itemsize:
        raise RcodecError(f"tensor {name}: offsets {span} do not match shape {shape}")
    return Entry(dtype, tuple(shape), data + span[0], span[1] - span[0])


def _sizes(numbers: object, most: int) -> bool:
    """Whether this is a list of whole numbers in 0..most."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n <= most for n in numbers)
