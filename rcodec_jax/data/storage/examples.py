"""`tf.train.Example` messages, the records of TFDS, without TensorFlow and always the same bytes.

The wire format is that of protocol buffers: an Example holds a map from names to lists of bytes,
floats or integers. TFDS itself writes the map in the order of a hash; here it is sorted by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rcodec_jax.errors import UsageError

Value = bytes | int | Sequence[int]
Buffer = bytes | memoryview

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_VARINT, _EIGHT, _DELIMITED, _FOUR = 0, 1, 2, 5


def encode_example(features: Mapping[str, Value]) -> bytes:
    """One record.

    Args:
      features: bytes, an integer in 0..2^63 - 1, or a list of such integers by name.
    """
    entries = []
    for name in sorted(features):
        feature = _delimited(1, name.encode()) + _delimited(2, _feature(features[name]))
        entries.append(_delimited(1, feature))
    return _delimited(1, b"".join(entries))


def decode_example(record: Buffer) -> dict[str, list[bytes] | list[int] | list[float]]:
    """The lists of a record by name; a feature without values is an empty list.

    Raises:
      UsageError: the bytes are no `tf.train.Example`.
    """
    found: dict[str, list[bytes] | list[int] | list[float]] = {}
    try:
        for entry in _messages(memoryview(record), 1):
            for feature in _messages(entry, 1):
                name, value = "", memoryview(b"")
                for field, content in _fields(feature):
                    if field == 1 and isinstance(content, memoryview):
                        name = bytes(content).decode()
                    elif field == 2 and isinstance(content, memoryview):
                        value = content
                found[name] = _values(value)
    except (ValueError, IndexError) as error:
        raise UsageError(f"expected a record of tf.train.Example: {error}") from None
    if not found:
        raise UsageError("expected a record of tf.train.Example with features, got none")
    return found


def _feature(value: Value) -> bytes:
    if isinstance(value, bytes):
        return _delimited(_BYTES, _delimited(1, value))
    numbers = [value] if isinstance(value, int) else value
    packed = b"".join(_varint(int(number)) for number in numbers)
    return _delimited(_INTEGERS, _delimited(1, packed))


def _delimited(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError(f"expected an integer of at least 0, got {value}")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _values(feature: memoryview) -> list[bytes] | list[int] | list[float]:
    for kind, message in _fields(feature):
        if not isinstance(message, memoryview):
            raise ValueError("a list of values is no message")
        contents = [content for field, content in _fields(message) if field == 1]
        if kind == _BYTES:
            return [bytes(content) for content in contents if isinstance(content, memoryview)]
        if kind == _FLOATS:
            return [x for content in contents for x in _floats(content)]
        if kind == _INTEGERS:
            return [x for content in contents for x in _integers(content)]
    return []


def _integers(content: memoryview | int) -> Iterator[int]:
    """Integers of a packed list, or the one that stands alone; signed 64 bits."""
    at = 0
    while not isinstance(content, int) and at < len(content):
        value, at = _read_varint(content, at)
        yield _signed(value)
    if isinstance(content, int):
        yield _signed(content)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _floats(content: memoryview | int) -> list[float]:
    if isinstance(content, int) or len(content) % 4:
        raise ValueError("a list of floats has an odd length")
    return [float(x) for x in np.frombuffer(content, "<f4")]


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, content in _fields(data):
        if field == wanted and isinstance(content, memoryview):
            yield content


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(number, content) of each field; content is an integer for varints, else the bytes."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _read_varint(data, at)
            yield field, value
            continue
        if wire == _DELIMITED:
            size, at = _read_varint(data, at)
        elif wire in (_EIGHT, _FOUR):
            size = 8 if wire == _EIGHT else 4
        else:
            raise ValueError(f"unknown kind of field, {wire}")
        if at + size > len(data):
            raise ValueError("it ends early")
        yield field, data[at : at + size]
        at += size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
