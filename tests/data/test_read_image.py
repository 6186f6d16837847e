"""Every common kind of picture comes in as upright sRGB uint8, or as one clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.errors import UsageError


def smooth(height=24, width=40):
    """A picture that lossy formats keep closely."""
    rows, columns = np.mgrid[:height, :width]
    red, green = rows * 255 // max(height - 1, 1), columns * 255 // max(width - 1, 1)
    return np.stack([red, green, (red + green) // 2], -1).astype(np.uint8)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_by_hand(width, height, depth, colour_type, rows, *more):
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def icc_profile(space, tags, name=b"test"):
    """A minimal version 2 ICC profile."""
    text = name + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(79)
    tags = {b"desc": description, b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind = b"mntr" + space + b"XYZ "
    header = struct.pack(">I", start + len(body)) + bytes(4) + b"\x02\x10\0\0" + kind
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def xyz(*values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def gamma(value):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


# Colorants of sRGB adapted to D50, the published values.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def rgb_profile(red, green, blue, power=2.2, name=b"test", curve=None):
    curves = {tag: curve or gamma(power) for tag in (b"rTRC", b"gTRC", b"bTRC")}
    colorants = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    return icc_profile(b"RGB ", colorants | curves, name)


def srgb_curve():
    """The curve of sRGB (IEC 61966-2-1) as a table."""
    v = np.arange(1024) / 1023
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    table = np.rint(light * 65535).astype(">u2").tobytes()
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + table


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (9, 1), (24, 40)])
def test_lossless_formats_come_in_exactly(format, shape):
    pixels = smooth(*shape)
    picture = read_image(encoded(Image.fromarray(pixels), format))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.flags.writeable
    assert picture.notes == ()


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 95}), ("WEBP", {})])
def test_lossy_formats_come_in_closely(format, options):
    pixels = smooth()
    picture = read_image(encoded(Image.fromarray(pixels), format, **options))
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 4
    assert picture.notes == ()


def test_path_bytes_and_file_agree(tmp_path):
    data = encoded(Image.fromarray(smooth()))
    path = tmp_path / "picture.dat"  # the content decides, not the name
    path.write_bytes(data)
    with path.open("rb") as stream:
        pictures = [read_image(x) for x in (path, str(path), data, bytearray(data), stream)]
    for picture in pictures:
        np.testing.assert_array_equal(picture.pixels, smooth())


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette(mode):
    image = Image.fromarray(smooth()).convert(mode)
    picture = read_image(encoded(image))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.notes == ()


ON_WHITE = "transparent pixels were laid on white (--background names another colour)"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background_and_it_is_said(mode):
    # Black text on nothing: black on white, not black on black.
    text = np.zeros((2, 3), np.uint8)
    text[0, 1], text[1, 2] = 255, 51
    image = Image.new(mode[:-1], (3, 2))
    image.putalpha(Image.fromarray(text))
    picture = read_image(encoded(image))
    np.testing.assert_array_equal(picture.pixels, np.repeat(255 - text[..., None], 3, 2))
    assert picture.notes == (ON_WHITE,)
    picture = read_image(encoded(image), background=(20, 40, 250))
    assert picture.pixels[:, 1:].tolist() == [
        [[0, 0, 0], [20, 40, 250]],
        [[20, 40, 250], [16, 32, 200]],
    ]
    assert picture.notes == (ON_WHITE.replace("white", "#1428fa"),)


def test_an_alpha_channel_that_hides_nothing_is_not_worth_a_note():
    image = Image.fromarray(smooth())
    image.putalpha(255)
    picture = read_image(encoded(image))
    np.testing.assert_array_equal(picture.pixels, smooth())
    assert picture.notes == ()


@pytest.mark.parametrize(
    "format, transparency", [("PNG", 1), ("PNG", bytes([255, 0, 255])), ("GIF", 1)]
)
def test_palette_with_transparency(format, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture = read_image(encoded(image, format, transparency=transparency))
    assert picture.pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    assert picture.notes == (ON_WHITE,)


@pytest.mark.parametrize(
    "depth, kind, row, key",
    [(2, 0, b"\x1b", 2), (4, 0, b"\x01\x2f", 2), (8, 0, b"\0\1\2\3", 2), (1, 0, b"\x20", 1),
     (16, 0, struct.pack(">4H", 0, 4112, 513, 65535), 513)],
)  # fmt: skip
def test_a_transparent_grey_of_any_depth(depth, kind, row, key):
    data = png_by_hand(4, 1, depth, kind, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    assert read_image(data).pixels[0, 2].tolist() == [255] * 3
    assert read_image(data, background=(1, 2, 3)).pixels[0, 2].tolist() == [1, 2, 3]
    assert read_image(data, background=(1, 2, 3)).pixels[0, 0].tolist() == [0] * 3


def test_a_transparent_colour_of_16_bits_is_compared_in_16():
    samples = struct.pack(">6H", 513, 513, 513, 512, 513, 513)
    key = chunk(b"tRNS", struct.pack(">3H", 513, 513, 513))
    picture = read_image(png_by_hand(2, 1, 16, 2, b"\0" + samples, key))
    assert picture.pixels.tolist() == [[[255] * 3, [2] * 3]]


def test_grey_of_16_bits_is_rounded_to_8_and_said():
    values = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    picture = read_image(encoded(Image.fromarray(values)))
    assert picture.pixels[0, :, 0].tolist() == [round(v / 257) for v in values[0].tolist()]
    assert picture.notes == ("16 bits a channel were reduced to 8",)


def test_colour_of_16_bits_is_reduced_and_said():
    samples = struct.pack(">6H", 0x0000, 0x8040, 0xFFFF, 0x1234, 0xABCD, 0x00FF)
    picture = read_image(png_by_hand(2, 1, 16, 2, b"\0" + samples))
    # 0x00ff / 257 is 0.99: rounded as grey is, where cutting gives 0.
    assert picture.pixels.tolist() == [[[0, 128, 255], [18, 171, 1]]]
    assert picture.notes == ("16 bits a channel were reduced to 8",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = smooth(6, 10)
    stored = {  # the inverse of what each value asks a viewer to do (Exif 2.3, tag 0x0112)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_image(data).pixels, upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter():
    data = encoded(Image.fromarray(smooth()), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    np.testing.assert_array_equal(read_image(data).pixels, smooth())


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture = read_image(encoded(image, "JPEG", quality=95))
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() < 8
    assert len(picture.notes) == 1 and "CMYK" in picture.notes[0]


def test_profile_is_converted_to_srgb():
    # A profile whose red is sRGB's blue and the reverse: colours come out exchanged.
    profile = rgb_profile(BLUE, GREEN, RED)
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    picture = read_image(encoded(image, icc_profile=profile))
    assert np.abs(picture.pixels.astype(int) - [0, 0, 255]).max() < 8
    assert picture.notes == ("converted to sRGB from the profile 'test'",)


def test_grey_profile_is_converted_to_srgb():
    linear = icc_profile(b"GRAY", {b"kTRC": gamma(1.0)})
    image = Image.new("L", (8, 8), 55)  # 55 / 255 of linear light is 127.7 in sRGB
    picture = read_image(encoded(image, icc_profile=linear))
    assert np.abs(picture.pixels.astype(int) - 128).max() <= 2


def test_grey_picture_with_a_colour_profile():
    image = Image.new("L", (8, 8), 100)
    picture = read_image(encoded(image, icc_profile=rgb_profile(RED, GREEN, BLUE)))
    assert np.ptp(picture.pixels.astype(int)) <= 2
    assert "converted" in picture.notes[0]


def test_srgb_profile_leaves_pixels_alone():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = read_image(encoded(Image.fromarray(smooth()), icc_profile=profile))
    np.testing.assert_array_equal(picture.pixels, smooth())
    assert picture.notes == ()


@pytest.mark.parametrize("name", [b"sRGB", b"sRGB-linear (made by hand)", b"sRGB IEC61966-2.1"])
def test_a_profile_is_what_it_does_and_not_what_it_is_called(name):
    # 55 / 255 of linear light is 127.7 in sRGB.
    linear = rgb_profile(RED, GREEN, BLUE, power=1.0, name=name)
    picture = read_image(encoded(Image.new("RGB", (8, 8), (55, 55, 55)), icc_profile=linear))
    assert np.abs(picture.pixels.astype(int) - 128).max() <= 1
    assert picture.notes == (f"converted to sRGB from the profile {name.decode()!r}",)
    # Of other primaries only, and of another power only.
    for other in (rgb_profile(BLUE, GREEN, RED, curve=srgb_curve(), name=name),
                  rgb_profile(RED, GREEN, BLUE, power=1.8, name=name)):  # fmt: skip
        picture = read_image(encoded(Image.fromarray(smooth()), icc_profile=other))
        assert len(picture.notes) == 1 and (picture.pixels != smooth()).any()


@pytest.mark.parametrize("name", [b"test", b"Camera RGB Profile", b"Linear"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_acts_as_srgb_leaves_pixels_alone_under_any_name(name, mode):
    image = Image.fromarray(smooth()).convert(mode)
    same = rgb_profile(RED, GREEN, BLUE, curve=srgb_curve(), name=name)
    picture = read_image(encoded(image, icc_profile=same))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.notes == ()


def test_unusable_profile_is_ignored_and_said():
    picture = read_image(encoded(Image.fromarray(smooth()), icc_profile=b"not a profile" * 20))
    np.testing.assert_array_equal(picture.pixels, smooth())
    assert picture.notes == ("the embedded colour profile is unusable and was ignored",)


def test_first_frame_of_an_animation_and_said():
    frames = [Image.new("L", (8, 8), value) for value in (10, 200, 90)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = read_image(data)
    assert picture.pixels[0, 0].tolist() == [10, 10, 10]
    assert picture.notes == ("only the first of 3 frames was read",)


def test_floating_point_is_refused():
    data = encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(UsageError, match="image: expected samples .* got floating point"):
        read_image(data)


def test_more_than_16_bits_are_refused():
    data = encoded(Image.fromarray(np.array([[0, 65536]], np.int32)), "TIFF")
    with pytest.raises(UsageError, match=r"0\.\.65535, got 0\.\.65536"):
        read_image(data)


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_files(format, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), format)
    path = tmp_path / "cut.img"
    for length in (0, 1, 10, 40, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(UsageError, match=r"cut\.img"):
            read_image(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damaged_files_give_a_picture_or_a_usage_error(format):
    rng = np.random.default_rng(1)
    data = np.frombuffer(encoded(Image.fromarray(smooth()), format), np.uint8)
    for _ in range(150):
        damaged = data.copy()
        at = rng.integers(0, len(data), rng.integers(1, 5))
        damaged[at] = rng.integers(0, 256, len(at))
        try:
            picture = read_image(damaged.tobytes(), max_pixels=2**20)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert picture.pixels.dtype == np.uint8 and picture.pixels.shape[2] == 3


def test_not_an_image(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("these are words\n")
    for source, words in [
        (text, "not an image"),
        (tmp_path, "got a folder"),
        (tmp_path / "absent.png", "no such file"),
        (b"", "image: expected a picture, got an empty file"),
    ]:
        with pytest.raises(UsageError, match=words):
            read_image(source)


def test_sizes_are_checked_before_decoding():
    # A few bytes that declare 4.2 thousand million pixels.
    with pytest.raises(UsageError, match="got 65000x65000"):
        read_image(png_by_hand(65000, 65000, 8, 2, b""))
    data = encoded(Image.fromarray(smooth()))
    with pytest.raises(UsageError, match="got 40x24"):
        read_image(data, max_pixels=40 * 24 - 1)
    with pytest.raises(UsageError, match="got 40x24"):
        read_image(data, max_side=39)
    assert read_image(data, max_pixels=40 * 24, max_side=40).pixels.shape == (24, 40, 3)


def test_pillows_own_limit_stays_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    read_image(encoded(Image.fromarray(smooth())))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "QOI"])
def test_pillows_own_limit_does_not_count(monkeypatch, format):
    """Some of its decoders look at it again as they decode."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(Image.fromarray(smooth()), format)
    assert read_image(data).pixels.shape == (24, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("background", [(300, 0, 0), (0, 0), (1.0, 0, 0), "red", None])
def test_a_background_that_is_no_colour_is_refused(background):
    with pytest.raises(UsageError, match="expected a colour as three integers"):
        read_image(encoded(Image.fromarray(smooth())), background=background)


def test_a_background_may_be_an_array():
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    picture = read_image(encoded(image), background=np.array([255, 0, 0]))
    assert (picture.pixels == (255, 0, 0)).all() and "#ff0000" in picture.notes[0]


@pytest.mark.parametrize("source", [None, 3, io.StringIO("text")])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(UsageError, match="binary"):
        read_image(source)


def test_a_closed_file_is_refused():
    file = io.BytesIO(b"x")
    file.close()
    with pytest.raises(UsageError, match="cannot be read"):
        read_image(file)


@pytest.mark.parametrize("start", [b"P2 4 4 255", b"P3 4 4 255"])
def test_a_cut_picture_in_text_is_read_as_far_as_it_goes(start):
    picture = read_image(start + b" 200" * 6, allow_truncated=True)
    assert picture.pixels.shape == (4, 4, 3)
    assert picture.pixels[0, 0, 0] == 200 and picture.pixels[-1, -1].max() == 0
