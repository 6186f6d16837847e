"""Buckets and tiles: they partition a picture, and a local function cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.tiling import (
    BUCKETS,
    HALO,
    STEP,
    TILE,
    bucket,
    extend,
    map_tiles,
    spans,
    tile_length,
    tile_size,
)
from rcodec_jax.regions.levelmap import quantise_nodes

tiles = st.sampled_from([(32, 8), (48, 16), (64, 16), (128, 16), (TILE, HALO), (192, 64)])


@given(st.integers(1, 5000))
def test_buckets_hold_the_picture_and_are_few(side: int) -> None:
    size = bucket(side)
    assert side <= size and size % STEP == 0
    assert size - side < 32 or size in BUCKETS
    assert bucket(size) == size


@given(st.integers(1, 150), tiles)
def test_cores_partition_a_side(steps: int, tile_and_halo: tuple[int, int]) -> None:
    side, (tile, halo) = steps * STEP, tile_and_halo
    tile = tile_length(side, tile, halo)
    parts = spans(side, tile, halo)
    assert [core for _, core, _ in parts] == [0, *(end for _, _, end in parts[:-1])]
    assert parts[-1][2] == side
    for start, core, end in parts:
        assert 0 <= start <= core < end <= min(start + tile, side)
        # context on both sides, save at the border of the picture
        assert core == 0 or core - start >= halo
        assert end == side or start + tile - end >= halo
        # tiles start where the networks' own grids do
        assert start % STEP == 0


@given(st.integers(1, 150), tiles)
def test_tiles_are_as_short_as_their_number_allows(steps: int, tile_and_halo) -> None:
    side, (tile, halo) = steps * STEP, tile_and_halo
    length = tile_length(side, tile, halo)
    assert length <= tile and (length in (side, tile) or length in BUCKETS)
    count = len(spans(side, length, halo))
    assert count == len(spans(side, tile, halo))
    shorter = [size for size in BUCKETS if 2 * halo < size < length]
    assert side <= tile or all(len(spans(side, size, halo)) > count for size in shorter)


def test_what_large_photos_compute_twice() -> None:
    """Of 6 megapixels 1.6 times the cells and not 2.4, of 24 megapixels 1.5."""
    computed = []
    for cells in ((250, 375), (500, 750)):
        lengths = [tile_length(bucket(side)) for side in cells]
        counts = [len(spans(bucket(side), n)) for side, n in zip(cells, lengths, strict=True)]
        computed.append(np.prod(lengths) * np.prod(counts) / np.prod(cells))
    assert computed == pytest.approx([1.64, 1.47], abs=0.01)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_tiles_of_a_local_function_make_the_whole(h: int, w: int, seed: int) -> None:
    """A 5x5 mean with zero padding at the picture's border; one input at 2 values a cell."""
    rng = np.random.default_rng(seed)
    height, width = h * STEP, w * STEP
    a, b = rng.normal(size=(height, width, 2)), rng.normal(size=(2 * height, 2 * width))

    def local(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        padded = np.pad(a.sum(-1) + b[::2, ::2], 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).sum((2, 3))
        return np.repeat(np.repeat(windows, 2, 0), 2, 1)[..., None]  # and 2 outputs a cell

    np.testing.assert_allclose(
        map_tiles(local, [a, b], (height, width), tile=48, halo=16), local(a, b), atol=1e-12
    )


def test_tiles_need_not_be_square() -> None:
    """Two rows of 96 cells and two columns of 112, in the place of 128 by 128."""
    cells, shapes = (144, 192), set()
    assert tile_size(cells, 128, 16) == (96, 112)
    x = np.random.default_rng(0).normal(size=cells)

    def mean(x: np.ndarray) -> np.ndarray:
        shapes.add(x.shape)
        return np.lib.stride_tricks.sliding_window_view(np.pad(x, 2), (5, 5)).mean((2, 3))

    found = map_tiles(mean, [x], cells, 128, 16)
    assert shapes == {(96, 112)}
    np.testing.assert_allclose(found, mean(x), atol=1e-12)
    faded = map_tiles(lambda x: x, [x], cells, 128, 16, blend=True)
    np.testing.assert_allclose(faded, x, atol=1e-6)


@pytest.mark.parametrize(("cells", "tile", "halo"), [((64, 48), 32, 8), ((80, 32), 48, 16)])
def test_blended_tiles_fade_into_one_another(cells, tile: int, halo: int) -> None:
    """Shares add up to one, a local function comes out as it is, and a jump becomes a slope."""
    x = np.random.default_rng(0).normal(size=(cells[0] * 2, cells[1] * 2, 3)).astype(np.float32)
    same = map_tiles(lambda x: x, [x], cells, tile, halo, blend=True)
    np.testing.assert_allclose(same, x, atol=1e-6)
    count = iter(range(100))

    def toned(x: np.ndarray) -> np.ndarray:
        return np.full_like(x, 10.0 * (next(count) % 2))

    jumps = []
    for blend in (False, True):
        count = iter(range(100))
        out = map_tiles(toned, [x], cells, tile, halo, blend=blend)
        jumps.append(max(np.abs(np.diff(out, axis=axis)).max() for axis in (0, 1)))
    assert jumps[0] == 10 and jumps[1] <= 10 / min(halo, tile - 2 * halo)
    bytes_ = (np.abs(x) * 40).astype(np.uint8)
    again = map_tiles(lambda x: x, [bytes_], cells, tile, halo, blend=True)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, bytes_)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_extension_mirrors_and_keeps_the_rest(h: int, w: int, down: int, right: int) -> None:
    x = np.random.default_rng(0).integers(0, 255, (h, w, 3)).astype(np.uint8)
    y = extend(x, h + down, w + right)
    assert y.shape == (h + down, w + right, 3) and y.dtype == x.dtype
    np.testing.assert_array_equal(y[:h, :w], x)
    if down:
        np.testing.assert_array_equal(y[h, :w], x[h - 1])


@pytest.fixture(scope="module")
def large(astronaut) -> np.ndarray:
    """512 x 384 pixels: 64 x 48 cells."""
    return np.ascontiguousarray(astronaut[:, 60:444])


@pytest.mark.parametrize("hints", [False, True])
def test_tiled_networks_are_close_to_whole_ones(codec, with_hints, large, hints) -> None:
    """Tiles of 48 cells with a halo of 16, on a picture of 64 x 48: within 1 of 255 nearly all.

    The autoencoder reaches 10 cells and equals the whole up to rounding; the denoiser's coarse
    level reaches a little beyond such a small halo (the real one is 32).
    """
    bundle = with_hints(codec.bundle) if hints else codec.bundle
    whole, tiled = Programs(bundle), Programs(bundle, tile=48, halo=16)
    y = whole.latent(large)
    np.testing.assert_allclose(tiled.latent(large), y, atol=2e-4)
    rng = np.random.default_rng(0)
    nodes = np.full((64, 48), 300, np.int32)
    nodes[20:50, 5:30] = 100
    levels = quantise_nodes(nodes)
    prior = np.concatenate([np.zeros_like(y), np.zeros_like(y)], axis=-1)
    x = (0.8 * y + 0.3 * rng.normal(size=y.shape)).astype(np.float32)
    dither = rng.uniform(-0.5, 0.5, y.shape)
    pictures = [
        p.pixels(x, prior, dither, levels, (512, 384), steps=2, kind="proportional").astype(int)
        for p in (whole, tiled)
    ]
    difference = np.abs(pictures[0] - pictures[1])
    assert difference.max() <= 3 and (difference > 1).mean() < 1e-3
    assert pictures[0].std() > 10
