"""Damage in a picture is named; what is there can be had on demand, with a note."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data import read_image
from rcodec_jax.data.packed_picture import plain_picture
from rcodec_jax.data.sources.sources import ImageFolder
from rcodec_jax.errors import UsageError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
PROFILE = b"icc \0\0" + zlib.compress(b"not a profile")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(format="PNG", pixels=NOISE, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def with_chunk(kind, body, *, sound):
    """NOISE with a chunk after the header."""
    data, extra = encoded(), bytearray(chunk(kind, body))
    extra[-1] ^= 0 if sound else 1
    return data[:33] + bytes(extra) + data[33:]


def test_a_wrong_checksum_of_the_pixels_is_named():
    data = bytearray(encoded())
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 + size] ^= 1  # of the checksum itself: every pixel is still right
    with pytest.raises(UsageError, match=r"damaged PNG: the checksum of IDAT at byte 33 is wrong"):
        read_image(bytes(data))
    picture = read_image(bytes(data), allow_truncated=True)
    np.testing.assert_array_equal(picture.pixels, NOISE)
    assert "the checksum of IDAT at byte 33 is wrong" in picture.notes[0]


@pytest.mark.parametrize("kind", [b"iCCP", b"gAMA", b"tEXt", b"pHYs"])
def test_a_damaged_chunk_beside_the_pixels_is_left_out(kind, tmp_path):
    data = with_chunk(kind, PROFILE, sound=False)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (data, path):
        picture = read_image(source)
        np.testing.assert_array_equal(picture.pixels, NOISE)
        assert picture.notes == (f"damaged chunks of the PNG were left out: {kind.decode()}",)
    assert ImageFolder(tmp_path).paths == [path]
    stored = plain_picture(data)  # no other program has to know what to do with it
    assert stored.changed
    with Image.open(io.BytesIO(stored.data)) as image:
        np.testing.assert_array_equal(np.asarray(image), NOISE)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_picture_is_refused_with_the_way_out(format, share):
    data = encoded(format)
    whole = read_image(data).pixels
    cut = data[: int(len(data) * share)]
    with pytest.raises(
        UsageError, match=rf"image: damaged {format}: .*--allow-truncated"
    ) as caught:
        read_image(cut)
    assert ("the file ends within its chunk IDAT" in str(caught.value)) == (format == "PNG")
    picture = read_image(cut, allow_truncated=True)
    assert picture.pixels.shape == whole.shape
    assert picture.notes[0].startswith(f"damaged {format}: ")
    assert "the unreadable part is grey or black" in picture.notes[0]
    rows = slice(-14, None) if format == "BMP" else slice(14)  # a BMP begins at the bottom
    if format == "JPEG":  # half a block of chroma may be made up, and the filter sees it
        rows = slice(6)
    np.testing.assert_array_equal(picture.pixels[rows], whole[rows])


@pytest.mark.parametrize("format, lost", [("JPEG", 2), ("PNG", 12)])
def test_only_the_end_mark_is_missing(format, lost):
    data = encoded(format)
    with pytest.raises(UsageError, match="damaged"):
        read_image(data[:-lost])
    picture = read_image(data[:-lost], allow_truncated=True)
    np.testing.assert_array_equal(picture.pixels, read_image(data).pixels)
    assert len(picture.notes) == 1


def test_a_sound_picture_is_read_alike():
    assert read_image(encoded(), allow_truncated=True).notes == ()


def test_a_cut_interlaced_picture():
    # One pass of seven is there: the pixel in the corner of each 8x8.
    row = b"\0" + bytes([200])
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row))
    picture = read_image(data, allow_truncated=True)
    expected = np.zeros((8, 8), np.uint8)
    expected[0, 0] = 200
    np.testing.assert_array_equal(picture.pixels[..., 0], expected)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "TIFF"])
def test_other_formats_stay_refused(format):
    data = encoded(format)
    for allow in (False, True):
        with pytest.raises(UsageError, match=format.replace("WEBP", "WebP")) as caught:
            read_image(data[: len(data) // 2], allow_truncated=allow)
        assert "--allow-truncated" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "PPM", "AVIF", "JPEG2000"])
def test_damaged_files_on_demand_give_a_picture_or_a_usage_error(format):
    rng = np.random.default_rng(1)
    data = np.frombuffer(encoded(format), np.uint8)
    for _ in range(60):
        damaged = data.copy()
        at = rng.integers(0, len(data), rng.integers(1, 5))
        damaged[at] = rng.integers(0, 256, len(at))
        cut = damaged[: rng.integers(1, len(data) + 1)].tobytes()
        try:
            picture = read_image(cut, max_pixels=2**16, allow_truncated=True)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[2] == 3
