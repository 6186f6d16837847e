"""More than 8 bits a channel: by the declared range, rounded, and what was assumed is said."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data import read_image
from rcodec_jax.errors import UsageError

LEVELS = np.array([0, 1, 255, 256, 1000, 2048, 4000, 4095], np.int64)
AS_12_BITS = [0, 0, 16, 16, 62, 128, 249, 255]  # 255 v / 4095


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values, kind, *more):
    """A PNG of 16 bits: kind 0 grey, 2 colour, 4 grey with alpha, 6 colour with alpha."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more,
                     chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])  # fmt: skip


def tiff(values, order="<", **tags):
    """An uncompressed TIFF of one strip, without a library."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    bits = values.dtype.itemsize * 8
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1 if channels == 1 else 2,
               273: 512, 277: channels, 278: height, 279: values.nbytes,
               **{int(tag.removeprefix("t")): value for tag, value in tags.items()}}  # fmt: skip
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    data += struct.pack(order + "H", len(entries))
    extra, at = b"", 300
    for tag, value in sorted(entries.items()):
        if tag in (258, 339) and channels == 3:
            data += struct.pack(order + "HHII", tag, 3, 3, at + len(extra))
            extra += struct.pack(order + "3H", *[value] * 3)
        elif value < 65536:
            data += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
        else:
            data += struct.pack(order + "HHII", tag, 4, 1, value)
    data = (data + bytes(4)).ljust(300, b"\0") + extra
    return data.ljust(512, b"\0") + values.astype(values.dtype.newbyteorder(order)).tobytes()


def grey(data):
    picture = read_image(data)
    assert (picture.pixels == picture.pixels[..., :1]).all()
    return picture.pixels[0, :, 0].tolist(), picture.notes


def test_unscaled_samples_with_a_declared_depth():
    values, notes = grey(png(LEVELS[None], 0, chunk(b"sBIT", b"\x0c")))
    assert values == AS_12_BITS
    assert notes == ("12 bits a channel were reduced to 8",)


def test_scaled_samples_with_a_declared_depth():
    # By the book: twelve bits repeated to sixteen. The sBIT chunk changes nothing then.
    scaled = (LEVELS << 4) | (LEVELS >> 8)
    for values in (scaled, scaled[:3]):
        found, _ = grey(png(values[None], 0, chunk(b"sBIT", b"\x0c")))
        assert found == [round(v / 257) for v in values.tolist()]


def test_without_a_declared_depth_the_assumption_is_said():
    values, notes = grey(png(LEVELS[None], 0))
    assert values == [round(v / 257) for v in LEVELS.tolist()]
    assert "taken as 0..65535" in notes[0] and "largest sample is 4095" in notes[0]
    _, notes = grey(png(LEVELS[None] * 16, 0))
    assert notes == ("16 bits a channel were reduced to 8",)


RAMP = np.arange(65536).reshape(64, 1024)


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_one_rule_for_grey_and_colour(kind):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    values = np.repeat(RAMP[..., None], channels, axis=2)
    if kind in (4, 6):
        values[..., -1] = 65535
    found = read_image(png(values, kind)).pixels
    np.testing.assert_array_equal(found, np.rint(RAMP / 257)[..., None].repeat(3, 2))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_of_16_bits_are_rounded(order, channels):
    values = RAMP.astype(np.uint16) if channels == 1 else RAMP[..., None].repeat(3, 2)
    values = values.astype(np.uint16)
    picture = read_image(tiff(values, order))
    np.testing.assert_array_equal(picture.pixels, np.rint(RAMP / 257)[..., None].repeat(3, 2))
    assert picture.notes == ("16 bits a channel were reduced to 8",)


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_0_is_white(order):
    wide = tiff(np.array([[0, 16384, 65535]], np.uint16), order, t262=0)
    if order == "<":
        assert grey(wide)[0] == [255, 191, 0]
    found, _ = grey(tiff(np.array([[0, 64, 255]], np.uint8), order, t262=0))
    assert found == [255, 191, 0]


def test_planes_of_16_bits_are_no_planes_of_8():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (3, 8, 24), np.uint16)
    found = read_image(planar(values)).pixels
    np.testing.assert_array_equal(found, np.rint(np.moveaxis(values, 0, -1) / 257))


def planar(values):
    planes, height, width = values.shape
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 300), (259, 3, 1, 1),
               (262, 3, 1, 2), (273, 4, 3, 310), (277, 3, 1, 3), (278, 3, 1, height),
               (279, 4, 3, 330), (284, 3, 1, 2)]  # fmt: skip
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    size = height * width * 2
    data = data.ljust(300, b"\0") + struct.pack("<3H", 16, 16, 16)
    data = data.ljust(310, b"\0") + struct.pack("<3I", *[512 + i * size for i in range(3)])
    data = data.ljust(330, b"\0") + struct.pack("<3I", size, size, size)
    return data.ljust(512, b"\0") + values.astype("<u2").tobytes()


def test_tiffs_with_a_largest_sample():
    values, notes = grey(tiff(LEVELS[None].astype(np.uint16), t281=4095))
    assert values == AS_12_BITS and notes == ("12 bits a channel were reduced to 8",)
    # Any other number is a statistic of this picture and no range.
    values, _ = grey(tiff(LEVELS[None].astype(np.uint16) * 16, t281=65520))
    assert values == [round(v * 16 / 257) for v in LEVELS.tolist()]


def test_tiffs_of_12_bits():
    a, b = LEVELS[0::2], LEVELS[1::2]
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8)
    data = tiff(packed.reshape(1, -1), t256=8, t258=12)
    values, notes = grey(data)
    assert values == AS_12_BITS and notes == ("12 bits a channel were reduced to 8",)


@pytest.mark.parametrize("bits, scale", [(8, 255), (12, 4095), (16, 65535)])
def test_integers_of_32_bits_have_the_least_usual_depth_and_it_is_said(bits, scale):
    values = np.array([[0, scale // 4, scale // 2, scale]], np.int32)
    found, notes = grey(tiff(values, t339=2))
    assert found == [round(v * 255 / scale) for v in values[0].tolist()]
    assert f"no range is declared, it was taken as 0..{scale}" in notes[0]


def test_integers_of_32_bits_with_a_declared_range():
    values = np.array([[0, 2**23, 2**24 - 1]], np.uint32)
    with pytest.raises(UsageError, match=r"0\.\.65535, got 0\.\.16777215 \(TIFF's MaxSampleValue"):
        read_image(tiff(values))
    found, notes = grey(tiff(values, t281=2**24 - 1))
    assert found == [0, 128, 255] and notes == ("24 bits a channel were reduced to 8",)


def test_signed_integers():
    values = np.array([[0, 16384, 32767]], np.int16)
    found, _ = grey(tiff(values, t339=2))
    assert found == [0, 128, 255]
    with pytest.raises(UsageError, match=r"0\.\.32767, got -5\.\.7"):
        read_image(tiff(np.array([[-5, 7]], np.int16), t339=2))


@pytest.mark.parametrize("kind, channels", [("P5", 1), ("P6", 3)])
@pytest.mark.parametrize("largest", [1023, 4095, 65535])
def test_ppm_by_its_largest_value(kind, channels, largest):
    values = np.linspace(0, largest, 64).astype(np.int64)
    data = f"{kind} 64 1 {largest}\n".encode()
    data += values[:, None].repeat(channels, 1).astype(">u2").tobytes()
    found, notes = grey(data)
    assert np.abs(np.array(found) - values * 255 / largest).max() <= 0.5 + 1e-2
    assert notes == (f"{largest.bit_length()} bits a channel were reduced to 8",)


def test_ppm_of_8_bits_or_fewer_loses_nothing():
    assert grey(b"P2 3 1 15 0 7 15\n") == ([0, 119, 255], ())


@pytest.mark.parametrize("masks", [(0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)])
def test_bmp_of_16_bits_a_pixel_is_not_16_bits_a_channel(masks):
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    header += struct.pack("<3I", *masks)
    data = b"BM" + struct.pack("<IHHI", 14 + len(header) + 4, 0, 0, 14 + len(header)) + header
    picture = read_image(data + struct.pack("<HH", masks[0], masks[1] | masks[2]))
    assert picture.pixels.tolist() == [[[255, 0, 0], [0, 255, 255]]]
    assert picture.notes == ()


def test_jpeg_2000_of_16_bits():
    values = np.array([[0, 128, 129, 32768, 65535]], np.uint16).repeat(4, 0).repeat(4, 1)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG2000", num_resolutions=1)
    found, notes = grey(buffer.getvalue())
    assert found == [round(v / 257) for v in values[0].tolist()]
    assert notes == ("16 bits a channel were reduced to 8",)


def test_cmyk_of_16_bits_keeps_its_colours():
    values = np.zeros((4, 4, 4), np.uint16)
    values[..., 1:3] = 65535
    buffer = io.BytesIO()
    Image.fromarray((values >> 8).astype(np.uint8), "CMYK").save(buffer, "TIFF")
    expected = read_image(buffer.getvalue()).pixels
    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 4, 300), (259, 3, 1, 1), (262, 3, 1, 5),
               (273, 3, 1, 512), (277, 3, 1, 4), (278, 3, 1, 4), (279, 3, 1, 128)]  # fmt: skip
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    data = data.ljust(300, b"\0") + struct.pack("<4H", 16, 16, 16, 16)
    picture = read_image(data.ljust(512, b"\0") + values.tobytes())
    np.testing.assert_array_equal(picture.pixels, expected)
    assert any("16 bits" in note for note in picture.notes)
