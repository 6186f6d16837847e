"""What the page computes, without Gradio and without a browser."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from rcodec_jax.app import handlers, page
from rcodec_jax.cli.main import main
from rcodec_jax.errors import BitstreamError, UsageError

NANO = Path(__file__).parents[1] / "golden" / "nano"


@pytest.fixture(scope="module")
def made(codec, photo) -> handlers.Made:
    painted = np.zeros((60, 80), np.float32)
    painted[10:40, 20:60] = 1
    importance = handlers.importance_of(handlers.PAINTED, photo, painted)
    options = {"size_bytes": 700, "strength": 1.0, "effort": 1, "realism": 0.5}
    return handlers.encode(codec, photo, importance, **options)


def test_a_photo_goes_there_and_back(codec, photo, made: handlers.Made) -> None:
    assert 650 < len(made.data) <= 700
    assert made.decoded.shape == photo.shape
    assert made.cell_bits.shape == (15, 20)
    inside = made.importance > 0.5
    assert made.cell_bits.sum() <= 8 * len(made.data)
    assert inside[25:75, 45:115].all() and not inside[90:].any()
    opened = handlers.open_file(codec, made.data, realism=0.5, max_pixels=10**6, model=str(NANO))
    np.testing.assert_array_equal(opened.decoded, made.decoded)
    np.testing.assert_allclose(opened.cell_bits, made.cell_bits)
    assert "160 x 120 pixels" in handlers.file_in_words(opened)
    with pytest.raises(BitstreamError):
        handlers.open_file(codec, made.data, realism=0.5, max_pixels=100)
    with pytest.raises(UsageError, match="no realism end"):
        handlers.decode_again(codec, made, 1.0)


def test_what_matters(photo) -> None:
    assert handlers.importance_of(handlers.EVERYWHERE, photo, None) is None
    for matters in (handlers.SALIENCY, handlers.CENTRE):
        assert handlers.importance_of(matters, photo, None).shape == (120, 160)
    with pytest.raises(UsageError, match="found none: paint them"):
        handlers.importance_of(handlers.FACES, np.zeros_like(photo), None)
    astronaut = skimage.data.astronaut()
    assert handlers.importance_of(handlers.FACES, astronaut, None)[120, 220] == 1
    dab = np.zeros((60, 80), np.float32)
    dab[9:12, 19:22] = 1
    gaze = handlers.importance_of(handlers.GAZE, photo, dab)
    row, column = (places.mean() for places in np.nonzero(gaze == gaze.max()))
    assert abs(row - 20.5) < 1 and abs(column - 40.5) < 1
    for nothing in (None, 0 * dab):
        with pytest.raises(UsageError, match="expected paint on the picture, got none"):
            handlers.importance_of(handlers.PAINTED, photo, nothing)
    with pytest.raises(UsageError, match="expected what matters out of"):
        handlers.importance_of("the rest", photo, dab)


def test_paint_is_the_opacity_of_all_layers() -> None:
    layers = np.zeros((2, 4, 6, 4), np.uint8)
    layers[0, 1, 1], layers[1, 2, 2] = 255 * handlers.BRUSH_OPACITY + 1, 51
    painted = handlers.paint_of(list(layers))
    assert painted[1, 1] == 1 and painted[2, 2] == pytest.approx(0.2 / handlers.BRUSH_OPACITY)
    assert np.count_nonzero(painted) == 2
    assert handlers.paint_of([]) is None


def test_sizes(photo) -> None:
    assert handlers.size_of(2.5, "KB", photo) == 2500
    assert handlers.size_of(0.5, "bits per pixel", photo) == 120 * 160 / 16
    for amount in (0, -1, None, float("nan")):
        with pytest.raises(UsageError, match="expected a size above 0 in KB"):
            handlers.size_of(amount, "KB", photo)
    with pytest.raises(UsageError, match="expected a unit"):
        handlers.size_of(1, "miles", photo)


def test_rivals_have_no_more_bytes(photo, made: handlers.Made) -> None:
    found = handlers.rival("jpeg", photo, 3000)
    assert found.fits and 2500 < found.size_bytes <= 3000
    assert handlers.psnr_db(photo, found.pixels) > 24
    best = handlers.rival("jpeg", photo, 10**6)
    assert best.size_bytes > handlers.rival("jpeg", photo, best.size_bytes - 1).size_bytes
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=100, optimize=True)
    assert best.size_bytes > 0.9 * len(buffer.getvalue())
    large = handlers.rival("jpeg", photo, 100)
    assert not large.fits and large.size_bytes > 100
    text = handlers.table(dataclasses.replace(made, rivals=(found, large)))
    assert f"| rcodec | {len(made.data):,} |" in text and "PSNR where it matters" in text
    assert "| JPEG, cannot be smaller |" in text


def test_pictures_on_the_page(tmp_path: Path) -> None:
    large = np.zeros((20, 2 * handlers.SHOWN_PX, 3), np.uint8)
    assert handlers.shown(large).shape == (10, handlers.SHOWN_PX, 3)
    assert handlers.shown(large[:, :50]) is not None
    path = tmp_path / "photo.png"
    path.write_bytes(handlers.png_of(large))
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert "partly generated" in str(image.info)
    assert handlers.read_photo(str(path), 10**6)[0].shape == large.shape
    with pytest.raises(UsageError, match="pixels"):
        handlers.read_photo(str(path), 1000)
    assert handlers.grey(None, large).min() == 255


def test_old_downloads_are_removed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.rdc").write_bytes(b"")
    hours_ago = time.time() - 7200
    os.utime(tmp_path / "old", (hours_ago, hours_ago))
    page.sweep(tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["new"]


def test_without_gradio_a_line_says_what_to_install(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "HF_HUB_OFFLINE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # and put back what the command sets
    assert main(["app", "--no-browser"]) == 2
    assert 'pip install "rcodec-jax[app]"' in capsys.readouterr().err
    assert not any(tmp_path.glob("rcodec-app-*"))
