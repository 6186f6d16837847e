"""The tone map: what it adds, when the encoder sends one."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.bitstream import read_container
from rcodec_jax.bitstream.varint import write_varint
from rcodec_jax.codec.tone import (
    add_tone,
    error_bits,
    fit_tone,
    interpolation,
    is_grey,
    is_smooth,
    without_colour,
)
from rcodec_jax.entropy import ToneMap, decode_tone

SIZE = (150, 210)
WORTH = np.full((19, 27), 100.0)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, (*SIZE, 3), np.uint8)


@pytest.mark.parametrize("length,spacing", [(1, 32), (33, 32), (64, 32), (200, 64)])
def test_interpolation_is_linear_between_points_and_level_beyond(length, spacing) -> None:
    at = np.arange(length) + 0.5
    matrix = interpolation(length, spacing, at)
    points = (np.arange(matrix.shape[1]) + 0.5) * spacing
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix @ points, np.clip(at, points[0], points[-1]))


def test_a_map_of_one_colour_shifts_the_picture_and_is_clipped() -> None:
    pixels = picture()
    grid = np.tile(np.array([3, -2, 90], np.int32), (3, 4, 1))
    shifted = add_tone(pixels, ToneMap(64, 1, grid))
    expected = np.clip(pixels.astype(int) + [3, -2, 90], 0, 255)
    np.testing.assert_array_equal(shifted, expected)


def test_what_is_off_evenly_is_found() -> None:
    pixels = picture()
    coded = fit_tone(pixels, (pixels - [12, 12, 12]).astype(np.uint8), WORTH)
    assert 0 < len(coded) <= 12
    tone = decode_tone(coded, *SIZE)
    np.testing.assert_array_equal(tone.grid * tone.step, np.full_like(tone.grid, 12))


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_are_freed_of_noise(level) -> None:
    """They are off to one side alone, by more than their mean here and there."""
    pixels, noise = np.full((*SIZE, 3), level, np.uint8), picture() % 4
    noisy = noise if level == 0 else 255 - noise
    tone = decode_tone(fit_tone(pixels, noisy, WORTH), *SIZE)
    np.testing.assert_array_equal(add_tone(noisy, tone), pixels)


def test_a_black_half_does_not_spoil_the_other() -> None:
    pixels = picture()
    pixels[:, : SIZE[1] // 2] = 0
    noisy = np.clip(pixels.astype(int) + picture(1) % 4, 0, 255).astype(np.uint8)
    before = np.square(noisy.astype(int) - pixels).mean()
    tone = decode_tone(fit_tone(pixels, noisy, WORTH), *SIZE)
    assert np.square(add_tone(noisy, tone).astype(int) - pixels).mean() < before


def test_a_ramp_is_found_to_a_level() -> None:
    ramp = np.rint(np.linspace(-20, 20, SIZE[1]))[None, :, None]
    pixels = picture()
    off = (pixels + ramp).astype(np.uint8)
    tone = decode_tone(fit_tone(pixels, off, WORTH), *SIZE)
    rest = add_tone(off, tone).astype(int) - pixels
    inside = rest[:, tone.spacing_px // 2 : -tone.spacing_px // 2]
    assert np.sqrt(np.mean(np.square(inside))) < 1.5


def test_nothing_is_sent_for_nothing() -> None:
    pixels = picture()
    assert fit_tone(pixels, pixels, WORTH) == b""
    noisy = np.clip(pixels + np.random.default_rng(1).normal(0, 4, pixels.shape), 0, 255)
    assert fit_tone(pixels, noisy.astype(np.uint8), WORTH / 100) == b""


def test_a_map_keeps_within_its_bytes() -> None:
    pixels = picture()
    off = pixels - np.random.default_rng(2).integers(0, 40, (5, 7, 3)).repeat(32, 0).repeat(32, 1)[
        : SIZE[0], : SIZE[1]
    ].astype(np.uint8)
    free = fit_tone(pixels, off, WORTH)
    tight = fit_tone(pixels, off, WORTH, most_bytes=len(free) - 4)
    assert len(tight) < len(free) - 4
    assert fit_tone(pixels, off, WORTH, most_bytes=2) == b""


def test_a_map_s_length_counts_as_well() -> None:
    """Lengths from 128 on take two bytes."""
    rng = np.random.default_rng(3)
    pixels = np.full((384, 384, 3), 120, np.uint8)
    off = (pixels + np.kron(rng.integers(-9, 10, (12, 12, 3)), np.ones((32, 32, 1)))).astype("u1")
    worth = np.full((48, 48), 50.0)
    free = fit_tone(pixels, off, worth)
    assert len(free) > 128
    for room in (len(free) + 1, len(free) + 2):
        tone = fit_tone(pixels, off, worth, most_bytes=room)
        assert len(tone) + len(write_varint(len(tone))) <= room
    assert tone == free


def test_a_grey_picture_pays_for_no_colour(codec, astronaut) -> None:
    """What the decoder takes away anyway is no error, so that a map in a file has no colour."""
    grey = np.repeat(astronaut[:200, :200, 1:2], 3, axis=2)
    tones = [
        read_container(codec.encode(grey, quality=quality, effort=2)).tone for quality in (5, 20)
    ]
    assert any(tones)
    for tone in filter(None, tones):
        points = decode_tone(tone, 200, 200).grid
        np.testing.assert_array_equal(points, np.repeat(points[..., :1], 3, axis=2))


def test_a_grey_picture_is_decoded_grey(codec, astronaut) -> None:
    grey = np.repeat(astronaut[:80, :96, 1:2], 3, axis=2)
    for effort in (1, 2):
        decoded = codec.decode(codec.encode(grey, quality=20, effort=effort))
        assert is_grey(decoded)
    coloured = grey.copy()
    coloured[0, 0, 0] ^= 1
    assert not read_container(codec.encode(coloured, quality=20, effort=1)).header.grey


def test_means_of_colours_are_rounded() -> None:
    pixels = np.array([[[0, 0, 1], [0, 1, 1], [255, 255, 255], [3, 4, 5]]], np.uint8)
    np.testing.assert_array_equal(without_colour(pixels)[0, :, 0], [0, 1, 255, 4])


def test_files_of_a_picture_that_is_off_carry_one(codec, monkeypatch) -> None:
    """Nano is off by a lot on a flat picture; effort 1 saves the time and sends none."""
    flat = np.full((96, 128, 3), (200, 90, 40), np.uint8)
    data = codec.encode(flat, quality=10, effort=2)
    bare = read_container(codec.encode(flat, quality=10, effort=1))
    with_tone = read_container(data)
    assert with_tone.tone and not bare.tone
    monkeypatch.setattr("rcodec_jax.codec.tone.add_tone", lambda pixels, tone: pixels)
    untouched = codec.decode(data)
    monkeypatch.undo()
    errors = [np.square(p.astype(float) - flat).mean() for p in (codec.decode(data), untouched)]
    assert errors[0] < errors[1] / 4


def test_smooth_pictures_are_those_whose_cells_are_level() -> None:
    ramp = np.tile(np.arange(210, dtype=np.uint8), (150, 1))[..., None].repeat(3, axis=2)
    assert is_smooth(ramp) and is_smooth(np.full((8, 8, 3), 77, np.uint8))
    assert not is_smooth(picture())
    assert not is_smooth(ramp[:7])  # has no whole cell
    lettered = ramp.copy()
    lettered[: 150 // 5, ::4] = 255  # a fifth of it
    assert not is_smooth(lettered)


def test_the_worth_of_an_error_is_its_square_by_cell() -> None:
    pixels = picture()
    decoded = pixels.copy()
    decoded[9, 17] += 51  # one pixel of the cell (1, 2), by .4 in -1..1
    worth = np.arange(19 * 27, dtype=np.float64).reshape(19, 27)
    assert error_bits(pixels, decoded, worth) == pytest.approx(worth[1, 2] * 0.16, rel=1e-5)
    assert error_bits(pixels, pixels, worth) == 0.0


def test_a_flat_picture_takes_the_cheaper_of_two_tries(codec, monkeypatch) -> None:
    flat = np.full((96, 96, 3), 140, np.uint8)
    tried = codec.encode(flat, quality=60, effort=2)
    monkeypatch.setattr("rcodec_jax.codec.encode.is_smooth", lambda pixels: False)
    alone = codec.encode(flat, quality=60, effort=2)
    assert len(tried) <= len(alone)
    budget = codec.encode(flat, size_bytes=len(alone), effort=2)
    monkeypatch.undo()
    again = codec.encode(flat, size_bytes=len(alone), effort=2)
    assert max(len(budget), len(again)) <= len(alone)

    def error(data: bytes) -> float:
        return float(np.square(codec.decode(data).astype(float) - flat).mean())

    assert error(again) <= error(budget)
