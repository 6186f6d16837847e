"""The file: header, metadata, maps, payload, two checksums (layout in FORMAT.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rcodec_jax.bitstream.crc import crc32c
from rcodec_jax.bitstream.metadata import MAX_BYTES, decode_metadata, encode_metadata
from rcodec_jax.bitstream.varint import read_varint, write_varint
from rcodec_jax.errors import (
    BitstreamError,
    ChecksumError,
    DigestError,
    LimitError,
    RcodecError,
    TruncatedError,
    UnsupportedVersionError,
)
from rcodec_jax.levels import CELL_PX, MAX_LEVELS, NODE_COUNT, level_nodes
from rcodec_jax.limits import Limits

MAGIC = b"rdc"
MEDIA_TYPE = "image/x-rcodec"
FORMAT_VERSION = 0
INTEGER_DIGEST_BYTES = 8
FLOAT_DIGEST_BYTES = 4
CRC_BYTES = 4
_SIZE_OFFSET = len(MAGIC) + 1
_NODE_BYTES = 3
_HAS_TONE, _GREY, _HAS_METADATA, _HALVED = (1 << bit for bit in range(20, 24))  # above the nodes
RESAMPLINGS = (1, 2)


@dataclass(frozen=True)
class Header:
    """What a file says before its payload.

    Attributes:
      height_px, width_px: size of the picture, at least 1.
      n_lo, n_hi: nodes of the first and last level, 0 <= n_lo <= n_hi <= 1023, equal if
        level_count is 1.
      level_count: L, 1..16.
      integer_digest: 8 bytes, names the model's integer part.
      float_digest: 4 bytes, names the model's float part.
      grey: the picture has no colour, and its decoder gives it none.
      resampling: 1, or 2 if what is coded is the picture at half its width and height.

    Raises:
      RcodecError: a value outside its range.
    """

    height_px: int
    width_px: int
    n_lo: int
    n_hi: int
    level_count: int
    integer_digest: bytes
    float_digest: bytes
    grey: bool = False
    resampling: int = 1

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise RcodecError(
                f"picture: expected at least 1x1, got {self.width_px}x{self.height_px} pixels"
            )
        if not 1 <= self.level_count <= MAX_LEVELS:
            raise RcodecError(f"levels: expected 1..{MAX_LEVELS}, got {self.level_count}")
        if not 0 <= self.n_lo <= self.n_hi < NODE_COUNT:
            raise RcodecError(
                f"nodes: expected 0 <= n_lo <= n_hi < {NODE_COUNT}, got {self.n_lo}, {self.n_hi}"
            )
        if self.level_count == 1 and self.n_lo != self.n_hi:
            raise RcodecError(f"nodes: a single level has one, got {self.n_lo} and {self.n_hi}")
        sizes = (len(self.integer_digest), len(self.float_digest))
        if sizes != (INTEGER_DIGEST_BYTES, FLOAT_DIGEST_BYTES):
            raise RcodecError(f"digests: expected 8 and 4 bytes, got {sizes[0]} and {sizes[1]}")
        if self.resampling not in RESAMPLINGS:
            raise RcodecError(f"resampling: expected 1 or 2, got {self.resampling}")

    @property
    def coded_size(self) -> tuple[int, int]:
        """Height and width in pixels of what is coded."""
        return coded_size(self.height_px, self.width_px, self.resampling)

    @property
    def height_cells(self) -> int:
        """h, rows of latent cells."""
        return -(-self.coded_size[0] // CELL_PX)

    @property
    def width_cells(self) -> int:
        """w, columns of latent cells."""
        return -(-self.coded_size[1] // CELL_PX)

    @property
    def nodes(self) -> np.ndarray:
        """Node of each level: int32 [L], ascending."""
        return level_nodes(self.n_lo, self.n_hi, self.level_count)

    @property
    def digest_offset(self) -> int:
        """Where in the file the digest of the integer part is."""
        sizes = write_varint(self.width_px) + write_varint(self.height_px)
        return _SIZE_OFFSET + len(sizes) + _NODE_BYTES

    def require_model(self, integer_digest: bytes) -> None:
        """Refuses a model whose integer part is not the one the file was made with.

        Raises:
          DigestError: names both digests.
        """
        if self.integer_digest != integer_digest:
            raise DigestError(
                f"the file needs the model {self.integer_digest.hex()}, but the one loaded is "
                f"{integer_digest.hex()}; name the bundle that it was made with (--model, or "
                "load(FOLDER) in Python)",
                offset=self.digest_offset,
            )


def coded_size(height_px: int, width_px: int, resampling: int) -> tuple[int, int]:
    """Height and width in pixels of a picture that is coded at 1/resampling of its sides."""
    return -(-height_px // resampling), -(-width_px // resampling)


@dataclass(frozen=True)
class Container:
    """A file taken apart.

    Attributes:
      header: its fields.
      level_map: coded level map, empty if there is one level.
      tone: coded tone map, empty if there is none.
      metadata: what the file says of its picture, see `bitstream.metadata`.
      payload: coded symbols.
      sections: bytes of "header" (with all that is not named otherwise), "metadata", "level_map",
        "tone", "payload" and "checksums"; they sum to the size of the file.
    """

    header: Header
    level_map: bytes
    tone: bytes
    metadata: dict[str, str]
    payload: bytes
    sections: dict[str, int]

    @property
    def level_map_offset(self) -> int:
        """Where in the file the level map begins."""
        return self.sections["header"] + self.sections["metadata"]

    @property
    def tone_offset(self) -> int:
        """Where in the file the tone map begins."""
        return self.level_map_offset + self.sections["level_map"]

    @property
    def payload_offset(self) -> int:
        """Where in the file the payload begins."""
        return self.tone_offset + self.sections["tone"] + CRC_BYTES


def write_container(
    header: Header,
    level_map: bytes,
    payload: bytes,
    *,
    tone: bytes = b"",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Puts a file together.

    Args:
      header: its fields.
      level_map: coded level map; empty if and only if there is one level.
      payload: coded symbols.
      tone: coded tone map; empty for none.
      metadata: see `bitstream.metadata`.

    Raises:
      UsageError: metadata that cannot be written.
      RcodecError: a level map where none belongs, or a size no reader accepts by default.
    """
    if (header.level_count == 1) != (not level_map):
        raise RcodecError(
            f"level map: {len(level_map)} bytes do not go with {header.level_count} level(s)"
        )
    limits = Limits()
    if not limits.allow(header.height_px, header.width_px):
        raise RcodecError(
            f"picture: expected sides up to {limits.max_side} and {limits.max_pixels} pixels, "
            f"got {header.width_px}x{header.height_px}"
        )
    about = encode_metadata(metadata or {})
    stated = (
        (_HAS_TONE, tone),
        (_GREY, header.grey),
        (_HAS_METADATA, about),
        (_HALVED, header.resampling == 2),
    )
    flags = sum(flag for flag, holds in stated if holds)
    head = b"".join(
        [
            MAGIC,
            bytes([FORMAT_VERSION << 4 | (header.level_count - 1)]),
            write_varint(header.width_px),
            write_varint(header.height_px),
            (header.n_lo | header.n_hi << 10 | flags).to_bytes(3, "little"),
            header.integer_digest,
            header.float_digest,
            write_varint(len(level_map)) if header.level_count > 1 else b"",
            write_varint(len(tone)) if tone else b"",
            write_varint(len(about)) if about else b"",
            about,
            level_map,
            tone,
        ]
    )
    checks = [crc32c(section).to_bytes(CRC_BYTES, "little") for section in (head, payload)]
    return b"".join([head, checks[0], payload, checks[1]])


def read_container(data: bytes, *, limits: Limits | None = None) -> Container:
    """Takes a file apart, trusting nothing it says.

    Args:
      data: the whole file.
      limits: largest picture and file to accept.

    Raises:
      UnsupportedVersionError: not an rcodec file, or of an unknown version.
      TruncatedError, ChecksumError, LimitError: as their names say.
      BitstreamError: a header field outside its range.
    """
    limits = limits or Limits()
    if len(data) > (most := limits.max_file_bytes):
        raise LimitError(f"a file of {len(data)} bytes is above the limit of {most}", offset=most)
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise UnsupportedVersionError(
            f"not an rcodec file: it begins with {data[:3].hex(' ')}, not with rdc", offset=0
        )
    _require(data, _SIZE_OFFSET)
    version, level_count = data[3] >> 4, (data[3] & 15) + 1
    if version != FORMAT_VERSION:
        raise UnsupportedVersionError(
            f"format version {version} is unknown; this release reads {FORMAT_VERSION}", offset=3
        )
    width_px, offset = read_varint(data, _SIZE_OFFSET)
    height_px, offset = read_varint(data, offset)
    if not limits.allow(height_px, width_px):
        raise LimitError(
            f"a picture of {width_px}x{height_px} is above the limits of {limits.max_pixels} "
            f"pixels and {limits.max_side} per side",
            offset=_SIZE_OFFSET,
        )
    if not width_px or not height_px:
        raise BitstreamError(
            f"a picture of {width_px}x{height_px} has no pixels", offset=_SIZE_OFFSET
        )
    fixed = offset
    end = fixed + _NODE_BYTES + INTEGER_DIGEST_BYTES + FLOAT_DIGEST_BYTES
    _require(data, end)
    packed = int.from_bytes(data[fixed : fixed + _NODE_BYTES], "little")
    map_length = tone_length = about_length = 0
    about_offset = end
    if level_count > 1:
        map_length, about_offset = read_varint(data, end)
    tone_length_at = about_offset
    if packed & _HAS_TONE:
        tone_length, about_offset = read_varint(data, tone_length_at)
    about_length_at = about_offset
    if packed & _HAS_METADATA:
        about_length, about_offset = read_varint(data, about_length_at)
    map_offset = about_offset + about_length
    map_end = map_offset + map_length
    head_end = map_end + tone_length
    _require(data, head_end + 2 * CRC_BYTES)
    _check_crc(data[:head_end], data[head_end : head_end + CRC_BYTES], "header", head_end)
    payload = data[head_end + CRC_BYTES : -CRC_BYTES]
    _check_crc(payload, data[-CRC_BYTES:], "payload", len(data) - CRC_BYTES)
    digests = data[fixed + _NODE_BYTES : end]
    try:
        header = Header(
            height_px=height_px,
            width_px=width_px,
            n_lo=packed & 1023,
            n_hi=packed >> 10 & 1023,
            level_count=level_count,
            integer_digest=digests[:INTEGER_DIGEST_BYTES],
            float_digest=digests[INTEGER_DIGEST_BYTES:],
            grey=bool(packed & _GREY),
            resampling=2 if packed & _HALVED else 1,
        )
    except RcodecError as error:  # sizes and level count are known to be right: the nodes
        raise BitstreamError(str(error), offset=fixed) from error
    if level_count > 1 and not map_length:
        raise BitstreamError(f"{level_count} levels but no level map", offset=end)
    if packed & _HAS_TONE and not tone_length:
        raise BitstreamError("a tone map is announced but empty", offset=tone_length_at)
    metadata = {}
    if packed & _HAS_METADATA:
        if not 1 <= about_length <= MAX_BYTES:
            raise BitstreamError(
                f"metadata: expected 1..{MAX_BYTES} bytes, got {about_length}",
                offset=about_length_at,
            )
        metadata = decode_metadata(data[about_offset:map_offset], about_offset)
    sections = {
        "header": about_offset,
        "metadata": about_length,
        "level_map": map_length,
        "tone": tone_length,
        "payload": len(payload),
        "checksums": 2 * CRC_BYTES,
    }
    level_map, tone = data[map_offset:map_end], data[map_end:head_end]
    return Container(header, level_map, tone, metadata, payload, sections)


def _require(data: bytes, length: int) -> None:
    if len(data) < length:
        raise TruncatedError(f"expected at least {length} bytes, got {len(data)}", offset=len(data))


def _check_crc(section: bytes, stored: bytes, name: str, offset: int) -> None:
    computed, expected = crc32c(section), int.from_bytes(stored, "little")
    if computed != expected:
        raise ChecksumError(
            f"{name} was changed or cut: checksum {computed:08x}, stored {expected:08x}",
            offset=offset,
        )
