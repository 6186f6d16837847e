"""What `encode` and `decode` take: paths, Pillow pictures, arrays of any library; many at once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.codec.inputs import file_of, importance_of, picture_of
from rcodec_jax.errors import BitstreamError, UsageError


class Tensor:
    """Behaves as a PyTorch tensor does towards NumPy."""

    def __init__(self, values: np.ndarray, device: str = "cpu") -> None:
        self._values, self._device = values, device

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self._device != "cpu":
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self._values


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (30, 44, 3), np.uint8)


def test_arrays_of_other_libraries(pixels):
    for given in (pixels, jnp.asarray(pixels), Tensor(pixels), pixels.tolist()):
        given = np.asarray(given, np.uint8) if isinstance(given, list) else given
        np.testing.assert_array_equal(picture_of(given).pixels, pixels)


def test_paths_and_pillow_pictures(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "p.png")
    for given in (tmp_path / "p.png", str(tmp_path / "p.png"), Image.fromarray(pixels)):
        np.testing.assert_array_equal(picture_of(given).pixels, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK"])
def test_pillow_pictures_mean_what_their_file_means(pixels, tmp_path, mode):
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = Image.fromarray(np.dstack([pixels, pixels[..., :1]])).convert(mode)
    else:
        image = image.convert(mode)
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    image.save(path)
    from_file, from_pillow = picture_of(path), picture_of(image)
    np.testing.assert_array_equal(from_pillow.pixels, from_file.pixels)
    assert from_pillow.notes == from_file.notes


def test_orientation_and_profile_of_pillow_pictures_count(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "p.png", exif=exif)
    with Image.open(tmp_path / "p.png") as turned:
        np.testing.assert_array_equal(picture_of(turned).pixels, np.rot90(pixels, -1))


@pytest.mark.parametrize(
    "given, message",
    [
        (np.zeros((3, 20, 30), np.uint8), "channels come last"),
        (np.zeros((20, 30, 3), np.float32), "as bytes"),
        (
            np.zeros((20, 30), np.uint8),
            r"got uint8 \[20, 30\] \(grey: numpy.repeat\(x\[\.\.\., None",
        ),
        (np.zeros((20, 30, 1), np.uint8), r"\(grey: numpy.repeat\(x, 3, -1\)\)$"),
        (np.zeros((20, 30, 4), np.uint8), r"\(with alpha: x\[\.\.\., :3\] drops it"),
        (np.zeros((4, 20, 30), np.uint8), "channels come last"),
        (np.zeros((2, 20, 30, 3), np.uint8), "one picture at a time"),
        (np.zeros((20, 30), np.float32), r"as bytes: .*; grey: "),
        (np.zeros((20, 30, 3), np.uint16), "16 bits as bytes"),
        (np.zeros((20, 30), bool), r"x.astype\(numpy.uint8\) \* 255; grey: "),
        (np.zeros((0, 30, 3), np.uint8), r"got uint8 \[0, 30, 3\]"),
        (b"bytes", "a path or a Pillow picture, got bytes"),
        (object(), "got object"),
        (Image.new("F", (4, 3)), "got floating point"),
        (Tensor(np.zeros(1), "cuda"), "on the CPU, got: can't convert cuda"),
        ("missing.png", "no such file"),
    ],
)
def test_other_pictures_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        picture_of(given)


def test_the_ways_out_lead_to_pictures(pixels):
    """What the messages propose is taken, and means what the array does."""
    x = pixels[..., 0]
    for taken in (np.repeat(x[..., None], 3, -1), Image.fromarray(x)):
        np.testing.assert_array_equal(picture_of(taken).pixels, np.stack([x] * 3, -1))
    x = np.dstack([pixels, np.zeros_like(x)])
    np.testing.assert_array_equal(picture_of(np.ascontiguousarray(x[..., :3])).pixels, pixels)
    assert (picture_of(Image.fromarray(x)).pixels == 255).all()


def test_importance_of_any_kind(tmp_path):
    mask = np.zeros((30, 44), np.uint8)
    mask[:7] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    for given in (
        mask / 255.0,
        jnp.asarray(mask / 255.0),
        Image.fromarray(mask),
        tmp_path / "m.png",
    ):
        np.testing.assert_array_equal(importance_of(given, (30, 44), []), mask == 255)
    assert importance_of(None, (30, 44), []) is None
    with pytest.raises(UsageError, match="mask of 45x30"):
        importance_of(Image.fromarray(mask), (30, 45), [])


def test_files_are_bytes_or_paths(tmp_path):
    (tmp_path / "f.rdc").write_bytes(b"abc")
    for given in (b"abc", bytearray(b"abc"), memoryview(b"abc"), tmp_path / "f.rdc"):
        assert file_of(given) == b"abc"
    with pytest.raises(UsageError, match="no such file"):
        file_of(tmp_path / "missing.rdc")
    with pytest.raises(UsageError, match="got int"):
        file_of(3)


def test_many_give_what_each_gives(codec, pixels, tmp_path):
    small = np.ascontiguousarray(pixels[:17, :23])
    Image.fromarray(small).save(tmp_path / "small.png")
    importance = np.zeros((30, 44), np.float32)
    importance[:9] = 1
    given = [pixels, tmp_path / "small.png", Image.fromarray(pixels)]
    maps = [importance, None, None]
    made = list(codec.encode_many(given, importance=maps, quality=70, effort=1))
    alone = [
        codec.encode(image, importance=a, quality=70, effort=1)
        for image, a in zip(given, maps, strict=True)
    ]
    assert made == alone and made[0] != made[2]
    back = list(codec.decode_many(made, steps=1, workers=3))
    for picture, data in zip(back, made, strict=True):
        np.testing.assert_array_equal(picture, codec.decode(data, steps=1))
    assert [picture.shape for picture in back] == [(30, 44, 3), (17, 23, 3), (30, 44, 3)]


def test_errors_among_many_come_in_their_place(codec, pixels):
    files = codec.encode_many([pixels, pixels[0], pixels], quality=60, effort=1)
    assert next(files)
    with pytest.raises(UsageError, match="uint8"):
        next(files)
    with pytest.raises(UsageError, match="one importance for each"):
        list(codec.encode_many([pixels] * 2, importance=[None], quality=60, effort=1))
    with pytest.raises(BitstreamError):
        list(codec.decode_many([b"no file"]))
    for workers in (0, "2", 1.5):
        with pytest.raises(UsageError, match=r"expected 1\.\.1024 workers"):
            list(codec.encode_many([pixels], workers=workers))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_a_tiff_that_pillow_opened_and_changed(pixels, tmp_path, mode, options):
    """What its file says of strips and sizes is of that file alone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels).convert("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, pixels.tobytes())
    image.save(tmp_path / "p.tif", exif=exif, **options)
    with Image.open(tmp_path / "p.tif") as opened:
        np.testing.assert_array_equal(
            picture_of(opened).pixels, picture_of(tmp_path / "p.tif").pixels
        )
    with Image.open(tmp_path / "p.tif") as opened:
        opened.load()
        opened.thumbnail((20, 20))
        assert max(picture_of(opened).pixels.shape) == 20


def test_exif_that_cannot_be_written_is_no_matter(pixels, tmp_path):
    image = Image.fromarray(pixels)
    image.getexif()[0x011A] = "dots"  # a resolution in words
    np.testing.assert_array_equal(picture_of(image).pixels, pixels)


def test_a_pillow_picture_of_32_bits():
    values = np.arange(12, dtype=np.int32).reshape(3, 4) * 5461
    grey = picture_of(Image.fromarray(values)).pixels
    np.testing.assert_array_equal(grey[..., 0], np.round(values * 255 / 65535))
