"""What is not read is refused by its name and with what helps; nothing starts another program."""

import io
import subprocess

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data import read_image, read_mask
from rcodec_jax.data.packed_picture import plain_picture
from rcodec_jax.data.pictures import formats, plugins
from rcodec_jax.data.sources.sources import ImageFolder
from rcodec_jax.errors import UsageError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n%%EndComments\nshowpage\n"


def box(brand, *others):
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (4 + len(body)).to_bytes(4, "big") + body + bytes(64)


NOT_READ = {
    "HEIC": [box(b"heic", b"mif1", b"heic"), box(b"mif1", b"heic")],
    "JPEG XL": [b"\xff\x0a" + bytes(60), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60)],
    "OpenEXR": [b"v/1\x01" + bytes(60)],
    "Radiance": [b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"],
    "PSD": [b"8BPS\0\1" + bytes(60)],
    "raw file": [
        b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
        box(b"crx ", b"isom"),
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x18\0\0\0",
    ],
    "SVG": [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'\n<?xml version="1.0"?>\n<!-- drawn --><svg/>',
        b"\xef\xbb\xbf<svg/>",
    ],
    "HTML": [b"<!DOCTYPE html>\n<html>404", b"\n<html><body>"],
    "Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"],
    "file of rcodec": [b"rdc\0" + bytes(60)],
    "PDF": [b"%PDF-1.7\n%"],
    "PostScript": [EPS, b"\xc5\xd0\xd3\xc6" + bytes(60)],
    "video": [box(b"isom", b"avc1")],
    "NumPy": [b"\x93NUMPY\x01\0v\0"],
    "DICOM": [bytes(128) + b"DICM" + bytes(20)],
    "ICO": [b"\0\0\1\0\1\0" + bytes(60)],
}


@pytest.mark.parametrize(
    "name, data", [(name, data) for name in NOT_READ for data in NOT_READ[name]]
)
def test_what_is_not_read_is_named(name, data, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "is_read", lambda kind: False)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=rf"photo\.png: .*{name}.* is not read; \w+"):
        read_image(path)


@pytest.mark.parametrize(
    "kind, package", [("HEIC", "pillow-heif"), ("JPEG XL", "pillow-jxl-plugin")]
)
def test_the_package_that_reads_it_is_named(kind, package, monkeypatch):
    monkeypatch.setattr(plugins, "is_read", lambda kind: False)
    with pytest.raises(UsageError, match=f"{kind} is not read; install {package}, or convert it"):
        read_image(NOT_READ[kind][0])


def test_a_plugin_that_is_there_is_used(monkeypatch):
    asked = []

    def is_read(kind):
        asked.append(kind)
        return True

    monkeypatch.setattr(plugins, "is_read", is_read)
    monkeypatch.setattr(plugins, "registered", lambda: ("HEIF",))
    assert formats.refused(NOT_READ["HEIC"][0]) is None and asked == ["HEIC"]
    with pytest.raises(UsageError, match="damaged HEIC"):  # it is asked, and there is none in it
        read_image(NOT_READ["HEIC"][0])


@pytest.mark.parametrize("module, format", [("pillow_jxl", "JXL"), ("pillow_heif", "HEIF")])
def test_pictures_of_plugins_are_read(module, format):
    pytest.importorskip(module)
    assert plugins.is_read({"JXL": "JPEG XL", "HEIF": "HEIC"}[format])
    pixels = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, quality=95)
    back = read_image(buffer.getvalue()).pixels
    assert back.shape == pixels.shape and np.abs(back.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize(
    "name, start",
    [("JPEG XL", b"\xff\x0a"), ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n")],
)
def test_what_is_damaged_is_named(name, start, monkeypatch):
    monkeypatch.setattr(plugins, "is_read", lambda kind: True)
    with pytest.raises(UsageError, match=f"damaged {name}"):
        read_image(start + bytes(60))


def test_raw_files_that_are_tiff_by_form_are_no_preview():
    for tags in ({50706: b"\1\4\0\0"}, {254: 1, 330: 8}):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "TIFF", tiffinfo=tags)
        with pytest.raises(UsageError, match="raw file is not read; develop it"):
            read_image(buffer.getvalue())


def test_nothing_starts_a_program(tmp_path, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr("os.system", started)
    (tmp_path / "eps.png").write_bytes(EPS)
    (tmp_path / "wmf.jpg").write_bytes(b"\xd7\xcd\xc6\x9a" + bytes(100))
    Image.new("RGB", (40, 24)).save(tmp_path / "good.png")
    for name in ("eps.png", "wmf.jpg"):
        with pytest.raises(UsageError, match="is not read"):
            read_image(tmp_path / name)
        with pytest.raises(UsageError, match="is not read"):
            read_mask(tmp_path / name, (24, 40))
        with pytest.raises(UsageError, match="is not read"):
            plain_picture((tmp_path / name).read_bytes())
    folder = ImageFolder(tmp_path)
    assert [path.name for path in folder.paths] == ["good.png"]
    assert [path.name for path, _ in folder.skipped] == ["eps.png", "wmf.jpg"]


@pytest.mark.parametrize("format", ["SGI", "PCX", "TGA", "SPIDER"])
def test_formats_that_nobody_means_are_not_tried(format):
    buffer = io.BytesIO()
    image = Image.new("F" if format == "SPIDER" else "RGB", (16, 16))
    image.save(buffer, format)
    with pytest.raises(UsageError, match=r"expected PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF, PPM"):
        read_image(buffer.getvalue())


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000", "GIF", "QOI"])
def test_formats_that_are_read(format):
    pixels = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    assert np.abs(read_image(buffer.getvalue()).pixels.astype(int) - pixels).max() <= 3
