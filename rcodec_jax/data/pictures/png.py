"""The chunks of a PNG file (third edition), which say more than Pillow hands out.

One walk finds what is damaged and what the colours mean.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KEPT = (b"IHDR", b"sBIT", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")
_MAX_KEPT = 2**24
_MAX_LENGTH = 2**31 - 1
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Seven passes of interlaced pictures: first column and row, and their steps.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Where a chunk lies.

    Attributes:
      kind: its four letters.
      start: of its length field.
      length: of its body, shorter than declared where the file ends in it.
      is_sound: whether it is whole and its checksum right.
    """

    kind: bytes
    start: int
    length: int
    is_sound: bool

    @property
    def is_ancillary(self) -> bool:
        return bool(self.kind[0] & 0x20)

    @property
    def name(self) -> str:
        return self.kind.decode("ascii")


@dataclasses.dataclass(frozen=True)
class Png:
    """What a walk over the chunks found.

    Attributes:
      chunks: in their order.
      bodies: of those that say what samples mean, the first sound one of each kind.
      is_whole: whether the walk came to the end chunk.
    """

    chunks: tuple[Chunk, ...]
    bodies: dict[bytes, bytes]
    is_whole: bool

    @property
    def damaged(self) -> tuple[Chunk, ...]:
        """Chunks that cannot be trusted, those that a picture cannot do without left out."""
        return tuple(c for c in self.chunks if c.is_ancillary and not c.is_sound)

    @property
    def fault(self) -> str | None:
        """Why the pixels cannot be trusted, None where they can."""
        if self.chunks and not self.is_whole and not self.chunks[-1].is_sound:
            return f"the file ends within its chunk {self.chunks[-1].name}"
        for chunk in self.chunks:
            if not chunk.is_ancillary and not chunk.is_sound:
                return f"the checksum of {chunk.name} at byte {chunk.start} is wrong"
        return None if self.is_whole else "the file ends before its end chunk"

    @property
    def significant_bits(self) -> int | None:
        """Bits of colour that have a meaning, of 16, where a chunk says so."""
        header, given = self.bodies.get(b"IHDR", b""), self.bodies.get(b"sBIT", b"")
        if len(header) != 13 or header[8] != 16 or header[9] not in _CHANNELS:
            return None
        colours = given[: 3 if header[9] in (2, 6) else 1]
        bits = max(colours, default=0)
        return bits if 8 < bits <= 16 else None


def walk(stream: BinaryIO, *, header_only: bool = False) -> Png:
    """Reads the chunks of a file.

    Args:
      stream: at the start of a file that begins with SIGNATURE.
      header_only: stop before the pixels; `is_whole` is true then.
    """
    stream.seek(len(SIGNATURE))
    chunks: list[Chunk] = []
    bodies: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while True:
        head = stream.read(8)
        kind = head[4:]
        if len(head) < 8 or not kind.isalpha():
            return Png(tuple(chunks), bodies, False)
        if header_only and kind == b"IDAT":
            return Png(tuple(chunks), bodies, True)
        length = int.from_bytes(head[:4], "big")
        if length > _MAX_LENGTH:
            return Png(tuple(chunks), bodies, False)
        body, crc = stream.read(length), stream.read(4)
        is_sound = crc == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        chunks.append(Chunk(kind, at, len(body), is_sound))
        if is_sound and kind in _KEPT and length <= _MAX_KEPT:
            bodies.setdefault(kind, body)
        if len(crc) < 4:
            return Png(tuple(chunks), bodies, False)
        if kind == b"IEND":
            return Png(tuple(chunks), bodies, True)
        at += 12 + length


def without_damage(data: bytes, png: Png) -> bytes:
    """The file without its damaged ancillary chunks."""
    out, at = [], 0
    for chunk in png.damaged:
        out.append(data[at : chunk.start])
        at = chunk.start + chunk.length + 12
    return b"".join([*out, data[at:]])


def mended(data: bytes, png: Png) -> bytes | None:
    """A sound file with the pixels that can be had of a damaged one, the others 0.

    Returns:
      None where the header is lost.
    """
    header = png.bodies.get(b"IHDR")
    if header is None or len(header) != 13:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS or not width or not height:
        return None
    expected = _raw_size(width, height, depth * _CHANNELS[colour], bool(interlaced))
    packed = b"".join(
        data[c.start + 8 : c.start + 8 + c.length] for c in png.chunks if c.kind == b"IDAT"
    )
    raw = _inflated(packed, expected)
    before = [SIGNATURE, _chunk(b"IHDR", header)]
    seen = False
    for chunk in png.chunks:
        seen |= chunk.kind == b"IDAT"
        wanted = chunk.kind == b"eXIf" if seen else chunk.kind not in (b"IHDR", b"acTL", b"fcTL")
        if wanted and (chunk.is_sound or not chunk.is_ancillary):
            body = data[chunk.start + 8 : chunk.start + 8 + chunk.length]
            before.append(_chunk(chunk.kind, body))
    pixels = zlib.compress(raw + bytes(expected - len(raw)), 1)
    return b"".join([*before, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")])


def _inflated(packed: bytes, size: int) -> bytes:
    """What can be had of a damaged stream, at most `size` bytes."""
    inflater, out, found = zlib.decompressobj(), [], 0
    for at in range(0, len(packed), 256):
        try:
            out.append(inflater.decompress(packed[at : at + 256], size - found))
        except zlib.error:
            break
        found += len(out[-1])
        if found >= size:
            break
    return b"".join(out)


def _raw_size(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of the filtered rows of a picture of so many bits a pixel."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    return sum((1 + -(-w * bits // 8)) * h for w, h in sizes if w > 0 and h > 0)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
