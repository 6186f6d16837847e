"""Written pictures come back; bad targets leave nothing behind."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.bitstream.metadata import MAX_BYTES, encode_metadata
from rcodec_jax.data.pictures import provenance
from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.pictures.writing import write_image
from rcodec_jax.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".bmp", ".ppm", ".tif", ".tiff"])
def test_lossless_round_trip_by_suffix(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    write_image(path, PIXELS)
    np.testing.assert_array_equal(read_image(path).pixels, PIXELS)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg_by_suffix(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    write_image(tmp_path / "picture.jpg", flat)
    assert (tmp_path / "picture.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert np.abs(read_image(tmp_path / "picture.jpg").pixels.astype(int) - flat).max() <= 3


def test_avif_by_suffix(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    write_image(tmp_path / "picture.avif", flat)
    assert (tmp_path / "picture.avif").read_bytes()[4:12] == b"ftypavif"
    assert np.abs(read_image(tmp_path / "picture.avif").pixels.astype(int) - flat).max() <= 3


def test_avif_needs_a_pillow_that_has_it(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(UsageError, match=r"Pillow 11\.3"):
        write_image(io.BytesIO(), PIXELS, "avif")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_the_mark_is_found_by_other_programs(format):
    plain, marked = io.BytesIO(), io.BytesIO()
    write_image(plain, PIXELS, format)
    write_image(marked, PIXELS, format, marked=True)
    assert provenance.SOURCE_TYPE.encode() in marked.getvalue()
    assert provenance.SOURCE_TYPE.encode() not in plain.getvalue()
    assert len(marked.getvalue()) - len(plain.getvalue()) < 650
    with Image.open(marked) as image:
        image.load()
        packet = image.info.get("xmp") or image.tag_v2[700]
        (description,) = ElementTree.fromstring(packet)[0]
        said = description.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"]
        assert said.endswith("/compositeWithTrainedAlgorithmicMedia")
        if format in ("PNG", "JPEG"):
            comment = image.info["Comment" if format == "PNG" else "comment"]
            assert comment in (provenance.COMMENT, provenance.COMMENT.encode())
    np.testing.assert_array_equal(
        read_image(marked.getvalue()).pixels, read_image(plain.getvalue()).pixels
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("marked", [False, True])
def test_what_was_kept_is_read_again(format, marked):
    """By us, and by others: the date is where cameras have it."""
    kept = {"date": "2026-11-29T12:30:00-05:30", "copyright": "© Jürgen", "artist": "陳"}
    buffer = io.BytesIO()
    write_image(buffer, np.zeros((16, 16, 3), np.uint8), format, marked=marked, metadata=kept)
    assert read_image(buffer.getvalue()).metadata == kept
    with Image.open(buffer) as image:
        exif = image.getexif().get_ifd(0x8769)
        assert exif[36867] == "2026:11:29 12:30:00" and exif[36881] == "-05:30"
    buffer = io.BytesIO()
    write_image(buffer, np.zeros((16, 16, 3), np.uint8), format, metadata={"artist": "me"})
    assert read_image(buffer.getvalue()).metadata == {"artist": "me"}


def test_metadata_as_cameras_write_them():
    """Latin-1 and UTF-8, padding, two copyrights divided by NUL, dates that are none."""
    for tags, taken, found in (
        ({315: "J\xfcrgen".encode("latin-1")}, {}, {"artist": "Jürgen"}),
        ({33432: b"Photo \0 Editor\0", 315: b"  "}, {}, {"copyright": "Photo Editor"}),
        ({}, {36867: "0000:00:00 00:00:00"}, {}),
        ({}, {36867: "2026:11:29 12:30:00"}, {"date": "2026-11-29T12:30:00"}),
        ({}, {36867: "yesterday", 36881: "+01:00"}, {}),
    ):
        exif = Image.Exif()
        exif.update(tags)
        exif.get_ifd(0x8769).update(taken)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
        assert read_image(buffer.getvalue()).metadata == found


def test_long_texts_are_cut_to_what_a_file_holds():
    exif = Image.Exif()
    exif[33432], exif[315] = ("陳" * 500).encode(), ("é" * 2000).encode()
    exif.get_ifd(0x8769)[36867] = "2026:11:29 12:30:00"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", exif=exif)
    found = read_image(buffer.getvalue()).metadata
    assert found["copyright"] == "陳" * 150 and found["artist"] == "é" * 225
    assert len(encode_metadata(found)) <= MAX_BYTES


@pytest.mark.parametrize("format", ["BMP", "PPM"])
def test_formats_without_metadata_have_no_mark(format):
    plain, marked = io.BytesIO(), io.BytesIO()
    write_image(plain, PIXELS, format)
    write_image(marked, PIXELS, format, marked=True)
    assert marked.getvalue() == plain.getvalue()


def test_to_a_file_and_grey():
    buffer = io.BytesIO()
    write_image(buffer, PIXELS[..., 0], "png")
    assert buffer.getvalue()[:4] == b"\x89PNG"
    np.testing.assert_array_equal(read_image(buffer.getvalue()).pixels[..., 1], PIXELS[..., 0])


def test_bad_arguments(tmp_path):
    for target, pixels, format, words in [
        ("a.txt", PIXELS, None, "'.txt'"),
        ("a.png", PIXELS, "GIFF", "'GIFF'"),
        ("a.png", PIXELS / 255, None, "float64"),
        ("a.png", PIXELS[..., :2], None, r"\[5, 7, 2\]"),
        ("a.png", PIXELS[:0], None, r"\[0, 7, 3\]"),
        ("absent/a.png", PIXELS, None, "absent/a.png: cannot be written"),
        (".", PIXELS, "PNG", "got a folder"),
        ("a.webp", np.zeros((1, 16384, 3), np.uint8), None, "16384x1"),
    ]:
        with pytest.raises(UsageError, match=words):
            write_image(tmp_path / target, pixels, format)
    assert list(tmp_path.iterdir()) == []
