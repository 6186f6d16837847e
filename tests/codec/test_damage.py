"""Damaged files end in BitstreamError: no crash, no garbled picture, no large allocation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.bitstream.crc import crc32c
from rcodec_jax.bitstream.varint import write_varint
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.errors import BitstreamError, CorruptPayloadError

NAMES = ["pixel.rdc", "odd_box.rdc", "tall_gradient.rdc", "photo.rdc"]


@pytest.fixture(scope="module")
def files(golden) -> dict[str, bytes]:
    return {name: (golden.HERE / name).read_bytes() for name in NAMES}


damages = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 4000), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 4000), st.integers(1, 40)),
        st.tuples(st.just("insert"), st.integers(0, 4000), st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("copy"), st.integers(0, 4000), st.integers(0, 4000)),
        st.tuples(st.just("truncate"), st.integers(0, 4000), st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


def damage(data: bytes, steps: list) -> bytes:
    """Applies damages one after the other; places wrap around."""
    for kind, place, what in steps:
        place %= max(len(data), 1)
        if kind == "flip" and data:
            data = data[:place] + bytes([data[place] ^ what]) + data[place + 1 :]
        elif kind == "cut":
            data = data[:place] + data[place + what :]
        elif kind == "insert":
            data = data[:place] + what + data[place:]
        elif kind == "copy":
            other = what % max(len(data), 1)
            data = data[:place] + data[other : other + 5] + data[place + 5 :]
        elif kind == "truncate":
            data = data[:place]
    return data


@given(st.sampled_from(NAMES), damages)
def test_any_damage_is_a_clear_error(codec, files, name: str, steps: list) -> None:
    damaged = damage(files[name], steps)
    if damaged == files[name]:  # a copy of equal bytes, or two flips of one
        return
    with pytest.raises(BitstreamError) as error:
        codec.decode(damaged)
    assert str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_single_byte_counts(codec, files, name: str) -> None:
    data = files[name]
    for place in range(len(data)):
        for changed in (
            data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :],
            data[:place] + data[place + 1 :],
        ):
            with pytest.raises(BitstreamError):
                read_symbols(changed, codec.bundle.integers)
    for extra in (b"\0", data[-1:], data):
        with pytest.raises(BitstreamError):
            read_symbols(data + extra, codec.bundle.integers)


def resealed(head: bytes, payload: bytes) -> bytes:
    """A file with both checksums right, as only malice would make it."""
    return b"".join(part + crc32c(part).to_bytes(4, "little") for part in (head, payload))


def split(data: bytes) -> tuple[bytes, bytes]:
    """Header with map, and payload."""
    for end in range(20, len(data) - 8):
        if crc32c(data[:end]).to_bytes(4, "little") == data[end : end + 4]:
            return data[:end], data[end + 4 : -4]
    raise AssertionError("no header")


@given(st.sampled_from(NAMES), damages, damages)
def test_forged_files_decode_or_fail_cleanly(codec, files, name, on_head, on_payload) -> None:
    """With checksums made right again, nothing but a BitstreamError or some symbols may come."""
    head, payload = split(files[name])
    head = head[:4] + damage(head[4:], on_head[:1])
    forged = resealed(head, damage(payload, on_payload))
    try:
        _, levels, symbols = read_symbols(forged, codec.bundle.integers)
    except BitstreamError:
        return
    assert symbols.j.shape[:2] == levels.level_map.shape
    assert np.abs(symbols.j).max() < 2**15


def test_another_payload_is_found_out_by_its_end(codec, files) -> None:
    """Bits left over or missing after the last symbol."""
    head, payload = split(files["photo.rdc"])
    for other in (payload + b"\1", payload[:-1], b"", payload + payload):
        with pytest.raises(CorruptPayloadError):
            read_symbols(resealed(head, other), codec.bundle.integers)


def test_nothing_large_is_allocated_for_a_lie(codec, files) -> None:
    """A header that declares a giant picture, checksums right."""
    head, payload = split(files["pixel.rdc"])
    for side in (2**16 + 1, 2**15, 2**31):
        lie = head[:4] + 2 * write_varint(side) + head[6:]
        tracemalloc.start()
        with pytest.raises(BitstreamError):
            codec.decode(resealed(lie, payload))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**22, side
