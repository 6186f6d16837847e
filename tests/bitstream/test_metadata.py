"""What a file says of its picture comes back, and nothing else is read."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.bitstream import Header, read_container, write_container
from rcodec_jax.bitstream.crc import crc32c
from rcodec_jax.bitstream.metadata import MAX_BYTES, decode_metadata, encode_metadata
from rcodec_jax.errors import BitstreamError, UsageError

HEADER = Header(100, 200, 300, 300, 1, b"12345678", b"1234")
FULL = {"date": "2026-11-29T12:30:00+01:00", "copyright": "© 2026 Jürgen 陳", "artist": "a=b"}


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """The second decoder's reader of containers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return importlib.import_module("reference_stream")


lines = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters=[*map(chr, (*range(32), 127))]),
    min_size=1,
    max_size=40,
)


@given(st.fixed_dictionaries({}, optional={"copyright": lines, "artist": lines}))
def test_text_comes_back(theirs, metadata) -> None:
    data = write_container(HEADER, b"", b"payload", metadata=metadata)
    back = read_container(data)
    assert back.metadata == metadata and back.payload == b"payload" and back.header == HEADER
    assert sum(back.sections.values()) == len(data)
    assert back.sections["metadata"] == len(encode_metadata(metadata))
    assert theirs.read_container(data).payload == b"payload"


def test_it_lies_beside_maps_and_costs_its_bytes(theirs) -> None:
    levels = dataclasses.replace(HEADER, n_hi=400, level_count=3)
    plain = write_container(levels, b"a level map", b"payload", tone=b"tone")
    data = write_container(levels, b"a level map", b"payload", tone=b"tone", metadata=FULL)
    back = read_container(data)
    assert (back.level_map, back.tone, back.metadata) == (b"a level map", b"tone", FULL)
    assert len(data) == len(plain) + 1 + len(encode_metadata(FULL))
    for offset, section in (
        (back.level_map_offset, b"a level map"),
        (back.tone_offset, b"tone"),
        (back.payload_offset, b"payload"),
    ):
        assert data[offset : offset + len(section)] == section
    assert read_container(plain).metadata == {}
    second = theirs.read_container(data)
    assert (second.level_map, second.tone) == (b"a level map", b"tone")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"place": "here"}, "expected keys out of date, copyright, artist, got 'place'"),
        ({"artist": ""}, "expected a line of text for artist, got ''"),
        ({"artist": "a\nb"}, "expected a line of text for artist"),
        ({"artist": 3}, "expected a line of text for artist, got 3"),
        ({"artist": "\ud800"}, "expected text"),
        ({"date": "29.11.2026"}, "expected a date such as"),
        ({"date": "２０２６-11-29T12:30:00"}, "expected a date such as"),
        ({"artist": "é" * 600}, f"expected at most {MAX_BYTES} bytes, got 1207"),
    ],
)
def test_what_cannot_be_written(metadata, text) -> None:
    with pytest.raises(UsageError, match=text):
        write_container(HEADER, b"", b"", metadata=metadata)


@pytest.mark.parametrize(
    "data",
    [b"artist", b"artist=", b"=x", b"Artist=x", b"artist=x\n", b"artist=x\nartist=y",
     b"artist=\xff", b"artist=a\x00b", b"date=hello", b"a" * 17 + b"=x", b"\n"],
)  # fmt: skip
def test_what_is_not_metadata_is_refused(data) -> None:
    with pytest.raises(BitstreamError, match="metadata"):
        decode_metadata(data, 0)


def test_unknown_keys_are_kept_for_who_knows_them() -> None:
    assert decode_metadata(b"lens=f/2\nartist=me", 0) == {"lens": "f/2", "artist": "me"}


@pytest.mark.parametrize("length", [0, MAX_BYTES + 1])
def test_empty_and_long_sections_are_refused(length) -> None:
    from rcodec_jax.bitstream.varint import write_varint

    head = bytearray(write_container(HEADER, b"", b"")[:-8])
    at = head.index(b"12345678") - 1
    head[at] |= 1 << 6  # bit 22 of the three bytes
    section = b"artist=" + b"x" * (length - 7) if length else b""
    damaged = bytes(head) + write_varint(length) + section
    data = damaged + crc32c(damaged).to_bytes(4, "little") + bytes(4)
    with pytest.raises(
        BitstreamError, match=f"metadata: expected 1..{MAX_BYTES} bytes, got {length}"
    ):
        read_container(data)
