"""Pillow opens and saves `.rdc` files once the plug-in is imported."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rcodec_jax import pillow as plugin
from rcodec_jax.errors import UsageError


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    row, column = np.mgrid[:30, :44]
    return np.stack([row * 8, column * 5, row + column], -1).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_model(codec):
    plugin.use(codec, steps=1)
    yield
    plugin.use()


@pytest.fixture
def data(codec, pixels) -> bytes:
    return codec.encode(pixels, quality=60, effort=1)


def test_save_is_encode_and_load_is_decode(codec, pixels, data, tmp_path):
    path = tmp_path / "photo.rdc"
    importance = np.zeros((30, 44), np.float32)
    importance[:9] = 1
    Image.fromarray(pixels).save(path, quality=60, effort=1)
    assert path.read_bytes() == data
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("RDC", "RGB", (44, 30))
        assert image.info["bpp"] == len(data) * 8 / (30 * 44)
        assert image.get_format_mimetype() == "image/x-rcodec"
        np.testing.assert_array_equal(np.asarray(image), codec.decode(data, steps=1))
    buffer = io.BytesIO()
    mask = Image.fromarray((importance * 255).astype(np.uint8))
    Image.fromarray(pixels).save(buffer, "RDC", quality=60, effort=1, importance=mask)
    assert buffer.getvalue() == codec.encode(pixels, quality=60, effort=1, importance=importance)


def test_pixels_are_decoded_when_they_are_asked_for(codec, data, monkeypatch):
    calls = []
    real = codec.decode

    def decode(*args, **options):
        calls.append(options)
        return real(*args, **options)

    monkeypatch.setattr(codec, "decode", decode)
    image = Image.open(io.BytesIO(data))
    assert image.size == (44, 30) and not calls
    image.load()
    assert image.getpixel((0, 0)) == tuple(np.asarray(image)[0, 0])
    assert calls == [{"steps": 1}]


def test_pictures_of_other_modes_are_converted(data):
    buffer = io.BytesIO()
    Image.new("LA", (20, 10), (80, 0)).save(buffer, "RDC", quality=80, effort=1)
    # All is transparent, and so white.
    assert np.asarray(Image.open(buffer)).min() > 200


def test_thumbnails_and_copies(data):
    image = Image.open(io.BytesIO(data))
    image.thumbnail((22, 15))
    assert image.size == (22, 15) and image.copy().size == (22, 15)


def test_damage_is_an_error_of_pillows_kind(data):
    for damaged in (data[:-9], data[:40] + b"\0" + data[41:]):
        with pytest.raises(OSError, match="^RDC: "):
            Image.open(io.BytesIO(damaged))
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(b"rd"))


def test_a_failed_save_leaves_nothing(pixels, tmp_path):
    with pytest.raises(UsageError, match="got 3"):
        Image.fromarray(pixels).save(tmp_path / "photo.rdc", size_bytes=3, effort=1)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_plugin_imports_no_jax():
    code = (
        "import sys, rcodec_jax.pillow; from PIL import Image;"
        "assert Image.registered_extensions()['.rdc'] == 'RDC';"
        "sys.exit('imported JAX' if 'jax' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
