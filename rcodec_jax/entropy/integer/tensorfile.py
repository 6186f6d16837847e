"""Named integer arrays in the safetensors layout: the same bytes for the same arrays.

Written out here because the digest of a model is the hash of these bytes: their order and padding
must not depend on a library's version. Any safetensors reader can open the result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from rcodec_jax.errors import BundleError

_DTYPES = {"U8": "|u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "I64": "<i8"}
_NAMES = {np.dtype(text): name for name, text in _DTYPES.items()}
_MAX_HEADER_BYTES = 1 << 20
_MAX_DIMENSIONS = 8


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
    if len(blob) < 8:
        raise BundleError(f"integer part: {len(blob)} bytes are too short")
    length = int.from_bytes(blob[:8], "little")
    if length > min(len(blob) - 8, _MAX_HEADER_BYTES):
        raise BundleError(f"integer part: a header of {length} bytes does not fit")
    try:
        entries = json.loads(blob[8 : 8 + length].decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BundleError("integer part: the header is not JSON") from error
    if not isinstance(entries, dict):
        raise BundleError("integer part: the header is not an object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BundleError("integer part: metadata must be texts")
    data = memoryview(blob)[8 + length :]
    tensors = {name: _tensor(name, entry, data) for name, entry in entries.items()}
    end = 0
    for first, last in sorted(entry["data_offsets"] for entry in entries.values()):
        if first != end:
            raise BundleError("integer part: tensors share bytes or leave some between them")
        end = last
    if end != len(data):
        raise BundleError("integer part: the tensors do not fill the file exactly")
    return tensors, metadata


def _tensor(name: str, entry: object, data: memoryview) -> np.ndarray:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BundleError(f"tensor {name}: malformed entry")
    kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise BundleError(f"tensor {name}: unknown dtype {kind!r}")
    for numbers, most in ((shape, _MAX_DIMENSIONS), (span, 2)):
        if not isinstance(numbers, list) or len(numbers) > most:
            raise BundleError(f"tensor {name}: malformed shape or offsets")
        if not all(type(n) is int and 0 <= n <= len(data) for n in numbers):
            raise BundleError(f"tensor {name}: a size is out of range")
    dtype = np.dtype(_DTYPES[kind])
    if len(span) != 2 or span[1] - span[0] != math.prod(shape) * dtype.itemsize:
        raise BundleError(f"tensor {name}: offsets {span} do not match shape {shape}")
    if not math.prod(shape):
        raise BundleError(f"tensor {name}: empty, of shape {shape}")
    return np.frombuffer(data[span[0] : span[1]], dtype).reshape(shape)
