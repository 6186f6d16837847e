"""Unsigned varints: seven bits per byte, least significant first, in the fewest bytes."""

from __future__ import annotations

from rcodec_jax.errors import BitstreamError, TruncatedError

MAX_BYTES = 5


def write_varint(value: int) -> bytes:
    """Bytes of a value in 0 .. 2^35 - 1.

    Raises:
      ValueError: outside that range.
    """
    if not 0 <= value < 1 << (7 * MAX_BYTES):
        raise ValueError(f"varint must be 0..2^{7 * MAX_BYTES} - 1, got {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Reads a varint.

    Returns:
      (value, offset of the byte after it).

    Raises:
      TruncatedError: the data end inside it.
      BitstreamError: longer than five bytes, or not in the fewest bytes.
    """
    value = 0
    for count in range(MAX_BYTES):
        if offset + count >= len(data):
            raise TruncatedError("data end inside a number", offset=len(data))
        byte = data[offset + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if byte == 0 and count:
                raise BitstreamError("a number has superfluous bytes", offset=offset)
            return value, offset + count + 1
    raise BitstreamError(f"a number is longer than {MAX_BYTES} bytes", offset=offset)
