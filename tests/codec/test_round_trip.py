"""Pictures of any size become files whose symbols come back exactly."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec.decode import dequantise
from rcodec_jax.codec.symbols import find_integer_part, read_symbols
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import Limits
from rcodec_jax.errors import LimitError, UsageError

SIZES = [(1, 1), (1, 17), (37, 53), (129, 257), (200, 300)]


def assert_same_symbols(encoded, bundle) -> None:
    """What the file says is what was coded; returns nothing."""
    container, levels, symbols = read_symbols(encoded.data, bundle.integers)
    assert container.header == encoded.header
    np.testing.assert_array_equal(levels.level_map, encoded.symbols.levels.level_map)
    np.testing.assert_array_equal(levels.nodes, encoded.symbols.levels.nodes)
    np.testing.assert_array_equal(symbols.z, encoded.symbols.z)
    np.testing.assert_array_equal(symbols.j, encoded.symbols.j)
    np.testing.assert_array_equal(symbols.prior.mean, encoded.symbols.prior.mean)
    np.testing.assert_array_equal(symbols.prior.log2_sigma, encoded.symbols.prior.log2_sigma)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_round_trip_at_any_size(codec, astronaut, size) -> None:
    height, width = size
    image = np.ascontiguousarray(astronaut[100 : 100 + height, 180 : 180 + width])
    importance = np.zeros((height, width), np.float32)
    importance[: height // 2 + 1, width // 2 :] = 1.0
    for encoded in (
        codec.encode_detailed(image),
        codec.encode_detailed(image, importance=importance, quality=80),
    ):
        assert_same_symbols(encoded, codec.bundle)
        assert (encoded.header.height_px, encoded.header.width_px) == size
        assert encoded.bpp == len(encoded.data) * 8 / (height * width)
        assert encoded.symbols.bits_y.shape == (-(-height // 8), -(-width // 8))
        assert encoded.symbols.bits_z.shape == (-(-height // 32), -(-width // 32), 4)
        decoded = codec.decode(encoded.data)
        assert decoded.shape == image.shape and decoded.dtype == np.uint8
        np.testing.assert_array_equal(codec.decode(encoded.data), decoded)
    assert codec.encode(image) == codec.encode_detailed(image).data


def test_a_better_quality_is_a_better_picture(codec, photos) -> None:
    image = photos["face"]
    sizes, errors = [], []
    for quality in (0, 25, 50, 75, 100):
        data = codec.encode(image, quality=quality)
        sizes.append(len(data))
        errors.append(np.square(codec.decode(data).astype(float) - image).mean())
    assert np.all(np.diff(sizes) > 0)
    assert errors[0] > errors[2] and errors[2] < np.square(image - image.mean()).mean() / 2


@pytest.mark.parametrize("kind", ["black", "white", "noise", "checker"])
def test_extreme_pictures(codec, kind: str) -> None:
    rng = np.random.default_rng(0)
    image = {
        "black": np.zeros((40, 60, 3), np.uint8),
        "white": np.full((40, 60, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (40, 60, 3)).astype(np.uint8),
        "checker": np.repeat(np.indices((40, 60)).sum(0)[..., None] % 2 * 255, 3, 2).astype("u1"),
    }[kind]
    encoded = codec.encode_detailed(image, quality=100)
    assert_same_symbols(encoded, codec.bundle)
    assert codec.decode(encoded.data).shape == image.shape


def test_the_latent_comes_back_within_half_a_bin(codec, photos) -> None:
    """x_t differs from sqrt(abar) y by uniform noise of the file's own timestep, and no more.

    That is what the dithered quantiser does; where the encoder trims integers it departs from it.
    """
    image = photos["face"]
    importance = np.zeros(image.shape[:2], np.float32)
    importance[50:150, 100:200] = 1
    encoded = codec.encode_detailed(
        image, importance=importance, quality=60, rdoq_lambda=math.inf, effort=1
    )
    _, levels, symbols = read_symbols(encoded.data, codec.bundle.integers)
    x, prior = dequantise(symbols, levels, node_table("scaled_linear"))
    y = codec._programs.latent(image)[: x.shape[0], : x.shape[1]]
    table = node_table("scaled_linear")
    delta = table.delta[levels.node_map][..., None]
    error = (x - np.sqrt(table.alpha_bar)[levels.node_map][..., None] * y) / delta
    assert abs(error).max() <= 0.5 + 1e-4
    assert abs(error.mean()) < 0.02 and error.var() == pytest.approx(1 / 12, rel=0.05)
    assert prior.shape == (*x.shape[:2], 8) and np.isfinite(prior).all()


def test_steps_and_trajectories_are_the_decoders_choice(codec, astronaut) -> None:
    image = np.ascontiguousarray(astronaut[:100, :100])
    importance = np.zeros((100, 100), np.float32)
    importance[:50] = 1
    mapped = codec.encode(image, importance=importance)
    ways = [
        codec.decode(mapped, steps=steps, trajectory=trajectory).astype(int)
        for steps, trajectory in ((1, "proportional"), (4, "proportional"), (4, "synchronous"))
    ]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(ways, ways[1:], strict=False))
    np.testing.assert_array_equal(ways[0], codec.decode(mapped))  # nano's default is one step
    uniform = codec.encode(image)
    np.testing.assert_array_equal(
        codec.decode(uniform, steps=3), codec.decode(uniform, steps=3, trajectory="synchronous")
    )
    for steps in (0, 51):
        with pytest.raises(UsageError, match=f"expected 1..50 steps, got {steps}"):
            codec.decode(mapped, steps=steps)
    with pytest.raises(UsageError, match="proportional or synchronous, got 'up'"):
        codec.decode(mapped, trajectory="up")


def test_limits_are_the_callers(codec, astronaut) -> None:
    data = codec.encode(np.ascontiguousarray(astronaut[:100, :100]))
    with pytest.raises(LimitError):
        codec.decode(data, limits=Limits(max_pixels=9999))
    with pytest.raises(LimitError):
        codec.decode(data, limits=Limits(max_side=99))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
     np.zeros((0, 4, 3), np.uint8), [[1]]],
    ids=["grey", "rgba", "float", "empty", "list"],
)  # fmt: skip
def test_what_is_not_a_picture_is_refused(codec, image) -> None:
    with pytest.raises(UsageError, match=r"expected a picture uint8 \[H, W, 3\], got"):
        codec.encode(image)


def test_the_integer_part_is_found_by_digest(codec, golden) -> None:
    header = read_container(codec.encode(np.zeros((8, 8, 3), np.uint8))).header
    assert find_integer_part(header, golden.BUNDLE).digest == codec.bundle.integers.digest


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_importance_that_is_the_same_everywhere_favours_nothing(codec, photos, value) -> None:
    image = photos["face"]
    plain = codec.encode(image, quality=50, effort=1)
    encoded = codec.encode_detailed(
        image, importance=np.full(image.shape[:2], value), quality=50, effort=1
    )
    assert encoded.data == plain
    assert any("no region is favoured" in note for note in encoded.notes)


def test_quality_of_a_region_says_what_becomes_of_the_rest(codec, photos) -> None:
    """At a quality nothing is moved to the region: the file becomes smaller."""
    image = photos["face"]
    importance = np.zeros(image.shape[:2])
    importance[:80, :80] = 1
    notes = codec.encode_detailed(image, importance=importance, quality=50, effort=1).notes
    (note,) = (note for note in notes if "the quality is that of the region" in note)
    assert re.search(r"its surroundings are coded up to \d+ nodes \(of 1024\) coarser", note)
    budget = codec.encode_detailed(image, importance=importance, bpp=0.3, effort=1).notes
    assert not any("the quality is that" in note for note in budget)


def test_one_picture_is_no_sequence(codec, photos) -> None:
    for given in ("photos", photos["face"]):
        with pytest.raises(UsageError, match="a sequence of pictures or paths"):
            list(codec.encode_many(given))


def test_a_budget_that_is_too_small_says_what_would_do(codec, photos) -> None:
    image = photos["face"]
    smallest = len(codec.encode(image, quality=0, effort=1))
    with pytest.raises(UsageError, match=f"at least {smallest} bytes .* got {smallest - 1} bytes"):
        codec.encode(image, size_bytes=smallest - 1, effort=1, resampling=1)
    assert len(codec.encode(image, size_bytes=smallest, effort=1)) == smallest
    with pytest.raises(UsageError, match=r"got less than a byte \(0\.2 bits per pixel\)$"):
        codec.encode(image[:1, :1], bpp=0.2, effort=1)


def test_a_tune_without_effort_is_said_to_do_nothing(codec, photos) -> None:
    notes = codec.encode_detailed(photos["face"], tune="mse", effort=1).notes
    assert any("--tune counts from effort 2 on" in note for note in notes)
