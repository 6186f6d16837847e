"""Colour that is declared without a profile: what is shown, in sRGB, and said."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from rcodec_jax.data import read_image
from rcodec_jax.data.packed_picture import plain_picture
from rcodec_jax.data.pictures import display
from rcodec_jax.data.pictures.colour import colour_of
from rcodec_jax.errors import UsageError

# The primaries of sRGB, white first, as a cHRM chunk has them.
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
PQ_NITS = {0.0: 0.0, 50.0: 0.44028, 80.0: 0.48547, 203.0: 0.58069, 1000.0: 0.75183, 4000.0: 0.90257}
"""Samples of SMPTE ST 2084 at some cd/m2, as published."""


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, *more, depth=16):
    """A PNG of rows of samples [H, W] or [H, W, 3] in 0..1 with chunks before its pixels."""
    samples = np.asarray(samples, np.float64)
    kind = ">u2" if depth == 16 else "u1"
    values = np.rint(samples * (2**depth - 1)).astype(kind)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth,
                         0 if samples.ndim == 2 else 2, 0, 0, 0)  # fmt: skip
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more,
                     chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])  # fmt: skip


def cicp(*values):
    return chunk(b"cICP", bytes(values))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", value))


def chrm(values):
    return chunk(b"cHRM", struct.pack(">8I", *values))


def encode(light):
    """Light 0..1 as samples of sRGB (IEC 61966-2-1)."""
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def colour_notes(picture):
    return [note for note in picture.notes if "16 bits" not in note]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("grey", [True, False])
def test_a_power_curve_is_converted(depth, grey):
    samples = np.arange(256)[None] / 255
    samples = samples if grey else samples[..., None].repeat(3, 2)
    for value, power in ((100000, 1.0), (55556, 1.8), (38462, 2.6)):
        picture = read_image(png(samples, gama(value), depth=depth))
        expected = [255 * encode((v / 255) ** power) for v in range(256)]
        assert np.abs(picture.pixels[0, :, 0] - expected).max() <= 0.51
        assert colour_notes(picture) == [
            f"converted to sRGB from sRGB's primaries, gamma {power:g}"
        ]


def test_linear_light_has_the_published_middle():
    assert read_image(png([[55 / 255]], gama(100000), depth=8)).pixels.tolist() == [[[128] * 3]]


@pytest.mark.parametrize(
    "chunks", [[gama(45455)], [gama(45455), chrm(SRGB_CHRM)], [chrm(SRGB_CHRM)],
               [cicp(1, 13, 0, 1)], [cicp(2, 2, 0, 1)]],
)  # fmt: skip
def test_what_means_srgb_leaves_pixels_alone(chunks):
    samples = np.random.default_rng(0).integers(0, 256, (8, 8, 3)) / 255
    picture = read_image(png(samples, *chunks, depth=8))
    np.testing.assert_array_equal(picture.pixels, np.rint(samples * 255))
    assert picture.notes == ()


def test_primaries_are_converted():
    exchanged = SRGB_CHRM[:2] + SRGB_CHRM[6:] + SRGB_CHRM[4:6] + SRGB_CHRM[2:4]
    picture = read_image(png([[[1, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]], chrm(exchanged), depth=8))
    assert picture.pixels.tolist() == [[[0, 0, 255], [255] * 3, [128] * 3]]
    assert picture.notes == ("converted to sRGB from the declared primaries, the curve of sRGB",)


@pytest.mark.parametrize(
    "code, red", [(12, (0.917488, 0.200287, 0.138561)), (9, (0.627404, 0.069097, 0.016391))]
)
def test_red_of_srgb_in_other_spaces(code, red):
    # Display P3: samples as CSS Color 4 has them. BT.2020: light, as BT.2087 has it.
    samples = red if code == 12 else [encode(value) for value in red]
    picture = read_image(png([[samples, [1, 1, 1], [0, 0, 0]]], cicp(code, 13, 0, 1)))
    assert np.abs(picture.pixels[0].astype(int) - [[255, 0, 0], [255] * 3, [0] * 3]).max() <= 1
    assert "Display P3" in picture.notes[-1] or "BT.2020" in picture.notes[-1]


@pytest.mark.parametrize("code", sorted(display.PRIMARIES))
def test_white_stays_white_in_every_space(code):
    picture = read_image(png([[[1, 1, 1], [0.25] * 3]], cicp(code, 13, 0, 1)))
    assert picture.pixels.tolist() == [[[255] * 3, [64] * 3]]


def test_pq_is_tone_mapped_and_said():
    samples = [[PQ_NITS[nits] for nits in (0.0, 50.0, 80.0, 203.0, 1000.0, 4000.0)]]
    picture = read_image(png(samples, cicp(9, 16, 0, 1)))
    grey = picture.pixels[0, :, 0].astype(float)
    # Up to the knee of BT.2390 light is what it was, with 203 cd/m2 as white; the peak is white.
    np.testing.assert_allclose(
        grey[:3], [0, 255 * encode(50 / 203), 255 * encode(80 / 203)], atol=0.6
    )
    assert grey[2] < grey[3] < 255 and grey[4] == grey[5] == 255
    assert colour_notes(picture) == [
        "converted to sRGB from BT.2020, PQ; tone-mapped by the curve of BT.2390 from 1000 to "
        "203 cd/m2"
    ]


@pytest.mark.parametrize(
    "more",
    [chunk(b"cLLI", struct.pack(">II", 40000000, 1)),
     chunk(b"mDCV", bytes(16) + struct.pack(">II", 40000000, 1))],
)  # fmt: skip
def test_pq_by_its_declared_peak(more):
    samples = [[PQ_NITS[nits] for nits in (50.0, 1000.0, 4000.0)]]
    picture = read_image(png(samples, cicp(9, 16, 0, 1), more))
    low, middle, high = picture.pixels[0, :, 0].tolist()
    assert abs(low - 255 * encode(50 / 203)) < 12 and low < middle < high == 255
    assert "from 4000 to 203" in picture.notes[-1]


def test_pq_keeps_hues():
    # Red of sRGB at 100 cd/m2, in BT.2020.
    nits = np.array([0.627404, 0.069097, 0.016391]) * 80
    c1, c2, c3, m1, m2 = 0.8359375, 18.8515625, 18.6875, 0.1593017578125, 78.84375
    power = (nits / 10000) ** m1
    samples = ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    picture = read_image(png([[samples]], cicp(9, 16, 0, 1)))
    assert np.abs(picture.pixels[0, 0] - [255 * encode(80 / 203), 0, 0]).max() <= 1


def test_hlg():
    # Three quarters of the range is the reference white, 203 cd/m2 (BT.2408); half is 50.7.
    hlg = read_image(png([[0, 0.5, 0.75, 1]], cicp(9, 18, 0, 1)))
    pq = read_image(png([[PQ_NITS[203.0]]], cicp(9, 16, 0, 1)))
    black, half, white, peak = hlg.pixels[0, :, 0].tolist()
    assert black == 0 and abs(half - 255 * encode(50.7 / 203)) <= 1 and peak == 255
    assert abs(white - int(pq.pixels[0, 0, 0])) <= 1
    assert "BT.2020, HLG; tone-mapped by the curve of BT.2390" in hlg.notes[-1]


def test_bt_709_is_what_its_display_shows():
    picture = read_image(png([[0.5]], cicp(1, 1, 0, 1)))
    assert abs(int(picture.pixels[0, 0, 0]) - 255 * encode(0.5**2.4)) <= 0.6
    assert "BT.1886" in picture.notes[-1]


def test_a_narrow_range():
    picture = read_image(png([[16 / 255, 235 / 255, 125.5 / 255]], cicp(1, 13, 0, 0)))
    assert picture.pixels[0, :, 0].tolist() == [0, 255, 128]


def iccp():
    """A linear profile under a harmless name, as a chunk."""
    buffer = io.BytesIO()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Image.new("RGB", (1, 1)).save(buffer, "PNG", icc_profile=lab.tobytes())
    data = buffer.getvalue()
    at = data.index(b"iCCP") - 4
    return data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]


def test_the_order_of_the_third_edition():
    srgb, linear = chunk(b"sRGB", b"\0"), gama(100000)
    grey = [[55 / 255]]
    first = cicp(1, 8, 0, 1)  # linear light, too
    for chunks, value in (
        ([linear], 128),
        ([srgb, linear], 55),
        ([iccp(), linear], 55),
        ([first, iccp(), linear], 128),
        ([first, srgb], 128),
        ([first], 128),
    ):
        assert read_image(png(grey, *chunks, depth=8)).pixels[0, 0].tolist() == [value] * 3


@pytest.mark.parametrize(
    "more, words",
    [(cicp(3, 13, 0, 1), "colour code points 3 and 13 are not known here and were ignored"),
     (cicp(9, 16, 9, 1), "the cICP chunk is invalid and was ignored"),
     (cicp(9), "the cICP chunk is invalid and was ignored"),
     (gama(0), "the gAMA chunk is invalid and was ignored"),
     (gama(2**31), "the gAMA chunk is invalid and was ignored"),
     (chrm([0] * 8), "the cHRM chunk is invalid and was ignored"),
     (chrm([31270, 32900] + [30000, 30000] * 3), "the cHRM chunk is invalid and was ignored")],
)  # fmt: skip
def test_what_cannot_be_understood_is_said(more, words):
    picture = read_image(png([[0.25]], more, depth=8))
    assert picture.pixels[0, 0].tolist() == [64] * 3 and picture.notes == (words,)


def test_a_packed_picture_is_in_srgb():
    stored = plain_picture(png([[55 / 255]], gama(100000), depth=8))
    assert stored.changed
    with Image.open(io.BytesIO(stored.data)) as image:
        assert np.asarray(image).ravel().tolist() == [128] * 3


def test_avif_by_its_code_points():
    flat = np.full((16, 16, 3), np.rint(255 * np.array([0.917488, 0.200287, 0.138561])), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    data = buffer.getvalue()
    assert data.count(b"nclx\0\1\0\x0d") == 1
    picture = read_image(data)
    assert np.abs(picture.pixels.astype(int) - flat).max() <= 2 and picture.notes == ()
    picture = read_image(data.replace(b"nclx\0\1\0\x0d", b"nclx\0\x0c\0\x0d"))
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() <= 12
    assert picture.notes == ("converted to sRGB from Display P3, the curve of sRGB",)
    picture = read_image(data.replace(b"nclx\0\1\0\x0d", b"nclx\0\x09\0\x10"))
    assert "PQ; tone-mapped" in picture.notes[0]


def bitmap(kind, *, xyz=(0,) * 9, power=0.0, profile=b""):
    """A bitmap of one pixel of 55 grey, red at the right, with a header of version 5."""
    header = struct.pack("<IiiHHIIiiII", 124, 2, 1, 1, 24, 0, 8, 0, 0, 0, 0) + bytes(16) + kind
    header += struct.pack("<9i", *(round(value * 2**30) for value in xyz))
    header += struct.pack("<3I", *[round(power * 65536)] * 3)
    header += struct.pack("<4I", 4, 124 + 8 if profile else 0, len(profile), 0)
    start = 14 + len(header)
    pixels = bytes([55, 55, 55, 0, 0, 255, 0, 0])
    return b"BM" + struct.pack("<IHHI", start + 8, 0, 0, start) + header + pixels + profile


def test_bitmaps_by_their_headers():
    red, green, blue = (0.4124, 0.2126, 0.0193), (0.3576, 0.7152, 0.1192), (0.1805, 0.0722, 0.9505)
    for data, pixels in (
        (bitmap(b"BGRs", power=1.0), [[55] * 3, [255, 0, 0]]),
        (bitmap(bytes(4)), [[55] * 3, [255, 0, 0]]),  # left empty by many writers
        (bitmap(bytes(4), xyz=red + green + blue, power=2.2), [[55] * 3, [255, 0, 0]]),
        (bitmap(bytes(4), xyz=red + green + blue, power=1.0), [[128] * 3, [255, 0, 0]]),
        (bitmap(bytes(4), xyz=blue + green + red, power=2.2), [[55] * 3, [0, 0, 255]]),
    ):
        assert read_image(data).pixels[0].tolist() == pixels
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_image(bitmap(b"DEBM", profile=profile)).notes == ()
    picture = read_image(bitmap(b"DEBM", profile=b"not a profile" * 20))
    assert picture.notes == ("the embedded colour profile is unusable and was ignored",)


@pytest.mark.parametrize("mark", [0, 1])
def test_qoi_is_srgb_whatever_its_mark_and_it_is_said(mark):
    # The format calls the mark informative, and Pillow sets it on everything that it writes.
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (55, 55, 55)).save(buffer, "QOI")
    data = bytearray(buffer.getvalue())
    data[13] = mark
    picture = read_image(bytes(data))
    assert picture.pixels[0, 0].tolist() == [55] * 3
    assert len(picture.notes) == mark and all("taken as sRGB" in note for note in picture.notes)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_adobe_rgb_by_exif_alone(format):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        format, {}
    )
    buffer = io.BytesIO()
    # The green of sRGB is 0.565, 1, 0.234 in Adobe RGB (1998).
    Image.new("RGB", (8, 8), (144, 255, 60)).save(buffer, format, exif=exif, **options)
    picture = read_image(buffer.getvalue())
    assert np.abs(picture.pixels[0, 0].astype(int) - [0, 255, 0]).max() <= 16
    assert picture.notes == (
        "no profile is embedded, but EXIF says Adobe RGB",
        "converted to sRGB from Adobe RGB, gamma 2.2",
    )


def test_srgb_by_exif_leaves_pixels_alone():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769)[0xA005] = {1: "R98"}
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (144, 255, 60)).save(buffer, "PNG", exif=exif)
    picture = read_image(buffer.getvalue())
    assert picture.pixels[0, 0].tolist() == [144, 255, 60] and picture.notes == ()


@pytest.mark.parametrize("text", ["#ff000080", "rgba(1,2,3,4)", "nocolour", ""])
def test_a_colour_with_alpha_or_of_no_name_is_refused(text):
    with pytest.raises(UsageError, match="expected a colour such as white"):
        colour_of(text)
