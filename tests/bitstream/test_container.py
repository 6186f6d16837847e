"""The file: every field comes back, the overhead is small, every damage is an error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.bitstream import Header, crc32c, read_container, write_container
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
from rcodec_jax.limits import Limits

HEADER = Header(512, 768, 100, 612, 2, b"integer!", b"floa")
UNIFORM = dataclasses.replace(HEADER, n_hi=100, level_count=1)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    n_lo = draw(st.integers(0, 1023))
    count = draw(st.integers(1, 16))
    return Header(
        height_px=draw(st.integers(1, 4000)),
        width_px=draw(st.integers(1, 65536)),
        n_lo=n_lo,
        n_hi=n_lo if count == 1 else draw(st.integers(n_lo, 1023)),
        level_count=count,
        integer_digest=draw(st.binary(min_size=8, max_size=8)),
        float_digest=draw(st.binary(min_size=4, max_size=4)),
        grey=draw(st.booleans()),
        resampling=draw(st.sampled_from([1, 2])),
    )


@given(
    headers(),
    st.binary(min_size=1, max_size=200),
    st.binary(max_size=300),
    st.binary(max_size=200),
)
def test_every_field_comes_back(
    header: Header, level_map: bytes, payload: bytes, tone: bytes
) -> None:
    level_map = level_map if header.level_count > 1 else b""
    data = write_container(header, level_map, payload, tone=tone)
    back = read_container(data)
    assert (back.header, back.level_map, back.payload) == (header, level_map, payload)
    assert back.tone == tone == data[back.tone_offset :][: len(tone)]
    assert sum(back.sections.values()) == len(data)
    assert len(back.header.nodes) == header.level_count


def test_overhead_for_a_photo_is_at_most_32_bytes() -> None:
    assert len(write_container(UNIFORM, b"", b"")) == 31
    assert len(write_container(HEADER, b"x" * 100, b"")) == 132


def test_cells_round_up() -> None:
    header = dataclasses.replace(HEADER, height_px=1, width_px=17)
    assert (header.height_cells, header.width_cells) == (1, 3)


def test_a_wrong_model_is_named_with_the_right_one() -> None:
    HEADER.require_model(b"integer!")
    with pytest.raises(DigestError, match=f"{b'integer!'.hex()}.*{b'other...'.hex()}"):
        HEADER.require_model(b"other...")


@pytest.mark.parametrize(
    "change",
    [
        {"height_px": 0},
        {"width_px": -1},
        {"level_count": 0},
        {"level_count": 17},
        {"n_lo": 700},
        {"n_hi": 1024},
        {"n_lo": -1},
        {"level_count": 1},
        {"integer_digest": b"short"},
        {"float_digest": b""},
        {"resampling": 3},
    ],
)
def test_headers_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(RcodecError):
        dataclasses.replace(HEADER, **change)


def test_a_map_goes_with_levels_only() -> None:
    for header, level_map in ((HEADER, b""), (UNIFORM, b"x")):
        with pytest.raises(RcodecError):
            write_container(header, level_map, b"")


def test_every_flipped_bit_is_an_error() -> None:
    for header, level_map in ((HEADER, b"some map"), (UNIFORM, b"")):
        data = write_container(header, level_map, bytes(range(40)))
        for place in range(len(data)):
            for bit in range(8):
                damaged = bytearray(data)
                damaged[place] ^= 1 << bit
                with pytest.raises(BitstreamError):
                    read_container(bytes(damaged))


def test_every_truncation_and_addition_is_an_error() -> None:
    for header, level_map in ((HEADER, b"some map"), (UNIFORM, b"")):
        data = write_container(header, level_map, bytes(range(40)))
        for length in range(len(data)):
            with pytest.raises(BitstreamError):
                read_container(data[:length])
        for extra in (b"\0", b"\xff", data):
            with pytest.raises(BitstreamError):
                read_container(data + extra)


@given(st.binary(max_size=80))
def test_any_bytes_end_in_an_error(data: bytes) -> None:
    for start in (b"", b"rdc\x00", b"rdc\x01"):
        with pytest.raises(BitstreamError):
            read_container(start + data)


def signed(head: bytes, payload: bytes = b"") -> bytes:
    """A file with valid checksums around whatever header: what a malicious writer makes."""
    return b"".join(
        [head, crc32c(head).to_bytes(4, "little"), payload, crc32c(payload).to_bytes(4, "little")]
    )


@pytest.mark.parametrize(
    "head,error",
    [
        (b"JPEG", UnsupportedVersionError),
        (b"rdc\x10" + bytes(20), UnsupportedVersionError),
        (b"rdc\x00" + b"\xff" * 9, BitstreamError),  # endless varint
        (b"rdc\x00\x80\x00\x01" + bytes(15), BitstreamError),  # varint with a superfluous byte
        (b"rdc\x00" + write_varint(65537) + b"\x01" + bytes(15), LimitError),
        (b"rdc\x00" + write_varint(2**34) + write_varint(2**34) + bytes(15), LimitError),
        (b"rdc\x00\x00\x01" + bytes(15), BitstreamError),  # no columns
        (b"rdc\x00\x08\x08\x00\x00\x10" + bytes(13), BitstreamError),  # no tone map
        (b"rdc\x00\x08\x08\x00\x04\x00" + bytes(12), BitstreamError),  # one level, two nodes
        (b"rdc\x01\x08\x08\x05\x04\x00" + bytes(12) + b"\x01m", BitstreamError),  # nodes descend
        (b"rdc\x01\x08\x08\x00\x04\x00" + bytes(12) + b"\x00", BitstreamError),  # no map
        (b"rdc\x01\x08\x08\x00\x04\x00" + bytes(12) + write_varint(2**30), TruncatedError),
    ],
)
def test_malicious_headers(head: bytes, error: type[BitstreamError]) -> None:
    with pytest.raises(error):
        read_container(signed(head))


def test_limits_are_the_callers() -> None:
    data = write_container(UNIFORM, b"", b"payload")
    just = Limits(max_pixels=768 * 512, max_side=768, max_file_bytes=len(data))
    read_container(data, limits=just)
    for name in ("max_pixels", "max_side", "max_file_bytes"):
        with pytest.raises(LimitError):
            less = {name: getattr(just, name) - 1}
            read_container(data, limits=dataclasses.replace(just, **less))


def test_the_damaged_section_is_named() -> None:
    data = bytearray(write_container(UNIFORM, b"", b"payload"))
    data[-6] ^= 1
    with pytest.raises(ChecksumError, match="payload"):
        read_container(bytes(data))


@given(st.integers(0, 2**35 - 1))
def test_varints_come_back(value: int) -> None:
    data = write_varint(value)
    assert read_varint(b"ab" + data + b"c", 2) == (value, 2 + len(data))
    with pytest.raises(TruncatedError):
        read_varint(data[:-1], 0)


def test_crc_is_castagnoli() -> None:
    """Check value of the catalogue of parametrised CRCs, and the vectors of RFC 3720."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def slow_crc(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 10240, 20001])
def test_lanes_do_not_change_the_crc(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data) == slow_crc(data)


@given(st.data())
def test_many_damages_at_once_are_an_error(data: st.DataObject) -> None:
    """Flips, cuts, insertions and moved pieces in any number, as long as something changed."""
    original = write_container(HEADER, b"a level map", bytes(range(0, 200, 3)))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        first = data.draw(st.integers(0, len(damaged)))
        last = data.draw(st.integers(first, min(first + 20, len(damaged))))
        damaged[first:last] = data.draw(st.binary(max_size=20))
    if bytes(damaged) == original:
        return
    with pytest.raises(BitstreamError):
        read_container(bytes(damaged))
