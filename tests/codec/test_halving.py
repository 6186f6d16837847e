"""Files of pictures at half their width and height: what they hold, and when they are made."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec import halving
from rcodec_jax.codec.resampling import enlarge, halve, halve_importance
from rcodec_jax.errors import BudgetError, UsageError


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (37, 53), (64, 40)])
def test_half_the_sides_rounded_up_and_back(size) -> None:
    flat = np.full((*size, 3), (7, 130, 255), np.uint8)
    small = halve(flat)
    assert small.shape == (-(-size[0] // 2), -(-size[1] // 2), 3)
    assert np.all(small == flat[0, 0])
    np.testing.assert_array_equal(enlarge(small, *size), flat)


def test_a_slow_wave_survives_and_the_finest_does_not() -> None:
    x = np.arange(96)
    for period, most in ((16, 1.5), (2, 100)):
        wave = np.rint(127.5 + 100 * np.cos(2 * np.pi * x / period)).astype(np.uint8)
        picture = np.broadcast_to(wave[None, :, None], (96, 96, 3))
        error = np.abs(enlarge(halve(np.ascontiguousarray(picture)), 96, 96) - picture.astype(int))
        inner = error[8:-8, 8:-8].max()
        assert inner <= most and (period > 2 or inner > 90)


def test_importance_of_a_reduced_pixel_is_the_greatest_that_it_covers() -> None:
    importance = np.zeros((5, 7), np.float32)
    importance[1, 2], importance[4, 6] = 0.5, 1
    expected = np.zeros((3, 4), np.float32)
    expected[0, 1], expected[2, 3] = 0.5, 1
    np.testing.assert_array_equal(halve_importance(importance), expected)


def test_a_halved_file_is_that_of_the_reduced_picture(codec, photos) -> None:
    """The same symbols and maps, with the sides that are shown, for which decoders enlarge it."""
    image = np.ascontiguousarray(photos["cat"][:187, :251])
    importance = np.zeros(image.shape[:2], np.float32)
    importance[60:120, 90:150] = 1
    options = {"quality": 45, "effort": 2}
    data = codec.encode(image, importance=importance, resampling=2, **options)
    reduced = codec.encode(
        halve(image), importance=halve_importance(importance), resampling=1, **options
    )
    ours, theirs = read_container(data), read_container(reduced)
    assert (ours.header.height_px, ours.header.width_px) == image.shape[:2]
    assert ours.header.coded_size == (theirs.header.height_px, theirs.header.width_px) == (94, 126)
    for part in ("payload", "level_map", "tone"):
        assert getattr(ours, part) == getattr(theirs, part)
    decoded = codec.decode(data)
    assert decoded.flags.writeable
    same = codec.encode(image, importance=importance, resampling=np.int64(2), **options)
    assert same == data
    np.testing.assert_array_equal(decoded, enlarge(codec.decode(reduced), *image.shape[:2]))


def test_budgets_count_the_pixels_that_are_shown(codec, photos) -> None:
    encoded = codec.encode_detailed(photos["face"], bpp=0.1, resampling=2, effort=1)
    assert 0.1 * 0.98 <= encoded.bpp <= 0.1
    assert encoded.bpp == len(encoded.data) * 8 / (200 * 300)
    assert not encoded.notes


def test_a_budget_out_of_reach_halves_the_picture(codec, photos) -> None:
    image = photos["face"]
    with pytest.raises(BudgetError) as error:
        codec.encode(image, size_bytes=30, resampling=1, effort=1)
    least = next(int(word) for word in str(error.value).split() if word.isdigit())
    encoded = codec.encode_detailed(image, size_bytes=least - 5, effort=1)
    assert len(encoded.data) < least and encoded.header.resampling == 2
    assert "half its width and height" in encoded.notes[0]
    assert codec.decode(encoded.data).shape == image.shape
    assert codec.encode_detailed(image, size_bytes=least, effort=1).header.resampling == 1
    with pytest.raises(BudgetError, match="at least"):
        codec.encode(image, size_bytes=30, effort=1)


def test_large_pictures_are_halved_where_a_sample_is_better_so(codec, astronaut, monkeypatch):
    """A blurred picture, as lenses make them, has no use for all its pixels; one of lines has."""
    sharp = np.ascontiguousarray(astronaut[:256, 120:376])
    blurred = enlarge(sharp[::2, ::2], 256, 256)
    lines = np.broadcast_to(np.where(np.arange(256) % 4 < 2, 60, 200)[:, None], (256, 256))
    lines = np.repeat(lines[..., None], 3, axis=2).astype(np.uint8)
    everywhere = np.zeros((256, 256), np.float32)
    everywhere[:128] = 1
    for size, expected in ((1 << 20, 1), (1 << 15, 2)):
        monkeypatch.setattr(halving, "LARGE_PX", size)
        encoded = codec.encode_detailed(blurred, bpp=0.08, effort=1)
        assert encoded.header.resampling == expected
        assert len(encoded.data) * 8 <= 0.08 * 256 * 256
        assert any("half its width" in note for note in encoded.notes) == (expected == 2)
    for image, options in (
        (lines, {"bpp": 0.5}),
        (blurred, {"bpp": 0.08, "resampling": 1}),
        (blurred, {"bpp": 0.08, "importance": everywhere}),
        (blurred, {"quality": 20}),
    ):
        assert codec.encode_detailed(image, effort=1, **options).header.resampling == 1
    tall = np.concatenate([blurred] * 6)  # of which a sample is a part
    assert codec.encode_detailed(tall, bpp=0.08, effort=1).header.resampling == 2
    beside = tall.copy()
    beside[256:426:2], beside[257:426:2] = 0, 255  # between its blocks
    assert codec.encode_detailed(beside, bpp=0.08, effort=1).header.resampling == 1
    with pytest.raises(BudgetError, match=r"got 1 byte \("):
        codec.encode(tall, size_bytes=1, effort=1)


@pytest.fixture
def encodings(monkeypatch) -> list[dict]:
    """Options of all that is encoded from here on; pictures above 2^15 pixels are large."""
    made: list[dict] = []
    encode = halving.encoding.encode

    def counted(bundle, programs, image, **options):
        made.append(options)
        return encode(bundle, programs, image, **options)

    monkeypatch.setattr(halving.encoding, "encode", counted)
    monkeypatch.setattr(halving, "LARGE_PX", 1 << 15)
    return made


def test_a_budget_that_half_the_sides_cannot_use_needs_no_comparison(
    codec, photos, encodings
) -> None:
    assert codec.encode_detailed(photos["cat"], bpp=6, effort=1).header.resampling == 1
    assert [options["resampling"] for options in encodings] == [2, 1]


@pytest.mark.parametrize("importance, strength", [(0.25, 0.5), (None, 0.5), ("half", 0.0)])
def test_importance_without_a_region_is_tried(
    codec, photos, encodings, importance, strength
) -> None:
    image = photos["cat"]
    if importance is not None:
        value, importance = importance, np.full(image.shape[:2], 0.25, np.float32)
        importance[:100] = 1 if value == "half" else value
    codec.encode(image, bpp=0.1, effort=1, importance=importance, roi_strength=strength)
    assert [options["resampling"] for options in encodings[:2]] == [2, 1]


@pytest.mark.parametrize(
    "wrong",
    [{"effort": 0}, {"tune": "speed"}, {"roi_strength": 2.0}, {"metadata": {"date": "today"}},
     {"importance": np.zeros((3, 3), np.float32)}],
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_is_tried(
    codec, photos, encodings, wrong
) -> None:
    with pytest.raises(UsageError):
        codec.encode(photos["cat"], bpp=0.1, **wrong)
    assert not encodings


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 1), (33, 50)])
@pytest.mark.parametrize("grey", [False, True])
def test_halved_pictures_of_any_size_come_back(codec, photos, size, grey) -> None:
    image = np.ascontiguousarray(photos["cat"][: size[0], : size[1]])
    if grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    data = codec.encode(image, quality=60, effort=1, resampling=2)
    header, decoded = read_container(data).header, codec.decode(data)
    assert (header.resampling, header.grey) == (2, grey)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    assert not grey or np.all(decoded == decoded[..., :1])


@pytest.mark.parametrize("wrong", [0, 3, 1.5, "2", True])
def test_other_factors_are_refused(codec, photos, wrong) -> None:
    with pytest.raises(UsageError, match="resampling of 1 or 2"):
        codec.encode(photos["face"], resampling=wrong)


def test_importance_out_of_range_is_refused_before_it_is_halved(codec, photos) -> None:
    importance = np.zeros((200, 300), np.float32)
    importance[0, 0] = -1
    with pytest.raises(UsageError, match="importance values in 0..1"):
        codec.encode(photos["face"], importance=importance, resampling=2)


def test_pillow_saves_halved_pictures(codec, photos, tmp_path) -> None:
    from rcodec_jax import pillow

    pillow.use(codec)
    try:
        path = tmp_path / "small.rdc"
        Image.fromarray(photos["cat"]).save(path, quality=40, effort=1, resampling=2)
        with Image.open(path) as opened:
            assert opened.size == (300, 200)
            assert np.asarray(opened).shape == (200, 300, 3)
    finally:
        pillow.use()
