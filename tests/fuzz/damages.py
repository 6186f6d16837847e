"""Random damage to files and to integer parts; the same for the same generator.

A file is either damaged as it lies, which its checksums have to notice, or taken apart, damaged in
one of its sections and sealed again with right checksums, as malice would do it: only that way does
damage reach what lies behind them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence

import numpy as np

from rcodec_jax.bitstream import crc32c, read_container
from rcodec_jax.bitstream.varint import read_varint, write_varint

MAX_STEPS = 4
_HUGE = (0, 1, 7, 8, 9, 255, 2**14, 2**16, 2**16 + 1, 2**28, 2**31 - 1, 2**32, 2**35 - 1)
_INTERESTING = (0x00, 0xFF, 0x80, 0x7F, 0x01, 0x10)


def damage(data: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """A damaged file; may by chance equal the whole one.

    Args:
      data: a whole file.
      rng: where all choices come from.
      others: whole files to splice with.
    """
    if rng.random() < 0.3:
        return mangle(data, rng, others)
    head, level_map, payload = _sections(data)
    kind = rng.integers(8)
    if kind <= 1:
        head = _damaged_fields(head, rng)
    elif kind == 2:
        level_map = mangle(level_map, rng, [_sections(other)[1] for other in others])
    elif kind == 3:
        level_map = rng.bytes(int(rng.integers(1, 80)))
        head = bytes([head[0] & 0xF0 | int(rng.integers(16))]) + head[1:]
    elif kind == 4:
        payload = mangle(payload, rng, [_sections(other)[2] for other in others])
    elif kind == 5:
        payload = rng.bytes(int(rng.integers(0, 2000)))
    elif kind == 6 and others:  # sections of one file under the header of another
        _, level_map, payload = _sections(others[int(rng.integers(len(others)))])
    else:
        head, payload = _damaged_fields(head, rng), mangle(payload, rng, [])
    declared = None
    if rng.random() < 0.1:
        declared = _number(rng, len(level_map))
    return _sealed(head, level_map, payload, declared)


def mangle(data: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """One to four truncations, bit flips, insertions, deletions, overwritings and splices."""
    for _ in range(int(rng.integers(1, MAX_STEPS + 1))):
        place = int(rng.integers(len(data) + 1))
        size = int(rng.integers(1, 17))
        kind = rng.integers(8)
        if kind == 0:
            data = data[:place]
        elif kind == 1 and data:
            place = min(place, len(data) - 1)
            flipped = data[place] ^ 1 << int(rng.integers(8))
            data = data[:place] + bytes([flipped]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + rng.bytes(size) + data[place:]
        elif kind == 3:
            data = data[:place] + data[place + size :]
        elif kind == 4:
            data = data[:place] + rng.bytes(size) + data[place + size :]
        elif kind == 5:
            byte = _INTERESTING[int(rng.integers(len(_INTERESTING)))]
            data = data[:place] + bytes([byte]) * size + data[place + size :]
        elif kind == 6:
            other = others[int(rng.integers(len(others)))] if others else data
            start = int(rng.integers(len(other) + 1))
            data = data[:place] + other[start:]
        else:
            start = int(rng.integers(len(data) + 1))
            data = data[:place] + data[start : start + size] + data[place + size :]
    return data


def _number(rng: np.random.Generator, near: int) -> int:
    """A number that somebody who means harm would declare, or one next to the right one."""
    if rng.random() < 0.5:
        return _HUGE[int(rng.integers(len(_HUGE)))]
    return max(0, near + int(rng.integers(-3, 4)))


@functools.lru_cache(maxsize=64)
def _sections(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header after the magic and without the length of the map, level map, payload."""
    box = read_container(data)
    return data[3 : 3 + _fixed_size(data)], box.level_map, box.payload


def _fixed_size(data: bytes) -> int:
    _, offset = read_varint(data, 4)
    _, offset = read_varint(data, offset)
    return offset + 3 + 8 + 4 - 3


def _damaged_fields(head: bytes, rng: np.random.Generator) -> bytes:
    """Another version, level count, size, nodes or digest."""
    lead = head[0]
    width, offset = read_varint(head, 1)
    height, offset = read_varint(head, offset)
    nodes, digests = head[offset : offset + 3], head[offset + 3 :]
    kind = rng.integers(8)
    if kind == 0:
        lead = int(rng.integers(256))
    elif kind <= 2:
        lead = lead & 0xF0 | int(rng.integers(16))
    elif kind == 3:
        width = _number(rng, width)
    elif kind == 4:
        height = _number(rng, height)
    elif kind == 5:
        width, height = (int(rng.integers(1, 400)) for _ in range(2))
    elif kind == 6:
        packed = int(rng.integers(1024)) | int(rng.integers(1024)) << 10
        flags = sum((rng.random() < 0.1) << bit for bit in (20, 23))  # a tone map, halved
        nodes = (packed | flags).to_bytes(3, "little")
    else:
        digests = mangle(digests, rng)
    sizes = [write_varint(width), write_varint(height)]
    if rng.random() < 0.05:
        sizes[0] = rng.bytes(int(rng.integers(1, 8)))
    return b"".join([bytes([lead]), *sizes, nodes, digests])


def _sealed(head: bytes, level_map: bytes, payload: bytes, declared: int | None) -> bytes:
    """A file with right checksums; the map goes in where the header says that there is one."""
    start = b"rdc" + head
    if head[0] & 15:
        length = len(level_map) if declared is None else declared
        start += write_varint(length) + level_map
    return b"".join(part + crc32c(part).to_bytes(4, "little") for part in (start, payload))


def damage_part(blob: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """A damaged integer part: its bytes, its JSON header, or the description inside it."""
    kind = rng.integers(5)
    if kind == 0:
        return mangle(blob, rng, others)
    length = int.from_bytes(blob[:8], "little")
    header, data = blob[8 : 8 + length], blob[8 + length :]
    if kind == 1:
        header = mangle(header, rng)
    elif kind == 2:
        data = _damaged_array(data, rng)
    else:
        entries = json.loads(header)
        if kind == 3:
            name = _pick(sorted(entries), rng)
            entries[name] = _damaged_json(entries[name], rng)
            if rng.random() < 0.2:
                entries[_pick(sorted(entries), rng)] = entries[name]
        else:
            meta = entries["__metadata__"]
            name = _pick(sorted(meta), rng)
            meta[name] = json.dumps(_damaged_json(json.loads(meta[name]), rng))
        header = json.dumps(entries, separators=(",", ":")).encode("ascii")
    if rng.random() < 0.05:
        return int(_number(rng, length)).to_bytes(8, "little") + header + data
    return len(header).to_bytes(8, "little") + header + data


def _damaged_array(data: bytes, rng: np.random.Generator) -> bytes:
    """The same number of bytes, some of them extreme."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(len(array)))
        size = int(rng.integers(1, 9))
        value = bytes([_INTERESTING[int(rng.integers(len(_INTERESTING)))]]) * size
        array[place : place + size] = value[: len(array) - place]
    return bytes(array)


_VALUES: tuple[Callable[[int], object], ...] = (
    lambda n: n - 1,
    lambda n: n + 1,
    lambda n: -n,
    lambda n: n * 2,
    lambda n: 2**31,
    lambda n: 2**63,
    lambda n: 10**400,
    lambda n: float(n),
    lambda n: float("nan"),
    lambda n: float("inf"),
    lambda n: True,
    lambda n: None,
    lambda n: str(n),
    lambda n: [n],
    lambda n: {"n": n},
)


def _damaged_json(value: object, rng: np.random.Generator) -> object:
    """One change somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = _pick(sorted(value), rng)
        changed = dict(value)
        if rng.random() < 0.15:
            moved = changed.pop(key)
            if rng.random() < 0.5:
                changed[key + "x"] = moved
        else:
            changed[key] = _damaged_json(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = int(rng.integers(len(value)))
        kind = rng.integers(6)
        if kind == 0:
            return value[:place] + value[place + 1 :]
        if kind == 1:
            return value[:place] + [value[place]] * int(rng.integers(2, 300)) + value[place:]
        if kind == 2:
            return value[:place] + [0, 2**40] + value[place:]
        return value[:place] + [_damaged_json(value[place], rng)] + value[place + 1 :]
    if isinstance(value, str):
        kinds = ("U8", "I8", "I16", "U16", "I32", "I64", "F64", "conv", "film", "leaky_relu", "")
        return kinds[int(rng.integers(len(kinds)))]
    number = value if isinstance(value, int) else 1
    return _VALUES[int(rng.integers(len(_VALUES)))](number)


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]
