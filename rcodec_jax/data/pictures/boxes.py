"""What the headers of AVIF and JPEG 2000 say of depth and colour, which Pillow does not hand out.

Boxes as in ISO/IEC 14496-12, properties of items as in 23008-12, JP2 as in 15444-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_CODESTREAM = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
_MAX_BOXES = 4096


class Header(NamedTuple):
    """What a header says.

    Attributes:
      bits: a channel, None where it does not say.
      code_points: primaries, transfer and matrix as in ITU-T H.273.
      profile: an ICC profile.
    """

    bits: int | None = None
    code_points: tuple[int, int, int] | None = None
    profile: bytes | None = None


def avif_header(data: bytes) -> Header:
    """Of the primary picture of an AVIF file; what cannot be understood is left out."""
    for kind, body in _boxes(data):
        if kind == b"meta":
            try:
                return _of_meta(body[4:])
            except (IndexError, ValueError):
                return Header()
    return Header()


def jpeg2000_header(data: bytes) -> Header:
    """Of a JP2 file or a bare codestream."""
    profile = None
    for kind, body in _boxes(data):
        if kind == b"jp2h":
            for inner, colour in _boxes(body):
                if inner == b"colr" and colour[:1] == b"\2" and profile is None:
                    profile = colour[3:]
        if kind == b"jp2c":
            break
    at = data.find(_CODESTREAM)
    depth = data[at + 42 : at + 43] if at >= 0 else b""
    return Header((depth[0] & 0x7F) + 1 if depth else None, None, profile)


def _of_meta(meta: bytes) -> Header:
    primary, properties = 0, list[tuple[bytes, bytes]]()
    owned: dict[int, list[int]] = {}
    for kind, body in _boxes(meta):
        if kind == b"pitm":
            primary = int.from_bytes(body[4:6] if body[0] == 0 else body[4:8], "big")
        if kind == b"iprp":
            for inner, inside in _boxes(body):
                if inner == b"ipco":
                    properties = list(_boxes(inside))
                elif inner == b"ipma":
                    owned |= _associations(inside)
    mine = [properties[i - 1] for i in owned.get(primary, ()) if 0 < i <= len(properties)]
    bits, points, profile = None, None, None
    # A picture made of tiles has no configuration of its own, its tiles have.
    for kind, body in (*mine, *properties):
        if kind == b"av1C" and bits is None:
            bits = 8 if not body[2] & 0x40 else 12 if body[2] & 0x20 else 10
    for kind, body in mine:
        if kind == b"colr" and body[:4] == b"nclx":
            values = [int.from_bytes(body[at : at + 2], "big") for at in (4, 6, 8)]
            points = values[0], values[1], values[2]
        elif kind == b"colr" and body[:4] in (b"prof", b"rICC"):
            profile = body[4:]
    return Header(bits, points, profile)


def _associations(body: bytes) -> dict[int, list[int]]:
    """Numbers of the properties of each item, counted from 1."""
    wide_items, wide_numbers = body[0] > 0, body[3] & 1
    count, at = int.from_bytes(body[4:8], "big"), 8
    out: dict[int, list[int]] = {}
    for _ in range(min(count, _MAX_BOXES)):
        size = 4 if wide_items else 2
        item = int.from_bytes(body[at : at + size], "big")
        entries, at = body[at + size], at + size + 1
        step = 2 if wide_numbers else 1
        mask = 0x7FFF if wide_numbers else 0x7F
        ends = range(at, at + entries * step, step)
        out[item] = [int.from_bytes(body[i : i + step], "big") & mask for i in ends]
        at += entries * step
    return out


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each box; stops at what is none."""
    at = 0
    for _ in range(_MAX_BOXES):
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = len(data) if size == 0 else at + size
        if len(kind) < 4 or end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end
