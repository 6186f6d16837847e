"""Large pictures: samples of them, tiles of what is made on demand, and budgets all the same."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.codec import encode as encoding
from rcodec_jax.codec import latents, sample
from rcodec_jax.codec.sample import SAMPLE_SIDE, sample_blocks, take_blocks
from rcodec_jax.codec.tiling import Extended, extend
from rcodec_jax.regions.budget import MAX_CORRECTIONS


@pytest.mark.parametrize(("height", "width"), [(128, 128), (500, 750), (1042, 1500)])
def test_a_sample_is_of_blocks_from_all_over(height: int, width: int) -> None:
    blocks = sample_blocks(height, width)
    assert blocks is not None
    for starts, side in zip(blocks, (height, width), strict=True):
        assert np.all(np.diff(starts) >= SAMPLE_SIDE) and np.all(starts % 4 == 0)
        assert starts[0] == 0 and side - 4 < starts[-1] + SAMPLE_SIDE <= side
    cells = np.arange(height * width).reshape(height, width)
    taken = take_blocks(cells, blocks, SAMPLE_SIDE)
    assert taken.shape == (8 * SAMPLE_SIDE, 8 * SAMPLE_SIDE)
    assert np.unique(taken).size == taken.size
    top, left = blocks[0][3], blocks[1][5]
    part = taken[3 * SAMPLE_SIDE : 4 * SAMPLE_SIDE, 5 * SAMPLE_SIDE : 6 * SAMPLE_SIDE]
    np.testing.assert_array_equal(part, cells[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE])


def test_a_picture_with_a_short_side_has_no_sample() -> None:
    assert sample_blocks(127, 4000) is None


@pytest.mark.parametrize("shape", [(3, 5), (20, 33)])
def test_windows_of_an_extended_array_are_those_of_the_whole(shape) -> None:
    x = np.random.default_rng(0).integers(0, 99, (*shape, 2))
    whole, lazy = extend(x, 32, 48), Extended(x, 32, 48)
    assert lazy.shape == whole.shape
    for window in np.ndindex(3, 4, 2, 3):
        top, left = 8 * window[0], 8 * window[1]
        part = slice(top, top + 8 * (1 + window[2])), slice(left, left + 8 * (1 + window[3]))
        np.testing.assert_array_equal(lazy[part], whole[part])


def test_budgets_of_large_pictures_are_met(codec, astronaut, monkeypatch) -> None:
    """By a sample of a quarter, with the largest picture that goes whole made a small one.

    With the region a quarter says too little of how sizes fall: the search goes on from the nearest
    size that is known, where another from the start takes 13.
    """
    monkeypatch.setattr(encoding, "LARGE_PX", 1 << 17)
    monkeypatch.setattr(sample, "_BLOCKS", 2)
    whole = []
    quantise = latents.quantise
    monkeypatch.setattr(
        latents,
        "quantise",
        lambda *args, **options: (
            whole.append(args[3].level_map.shape == (64, 48)) or quantise(*args, **options)
        ),
    )
    image = np.ascontiguousarray(astronaut[:, 60:444])
    importance = np.zeros(image.shape[:2], np.float32)
    importance[40:200, 100:200] = 1
    for target, regions, most in ((2500, None, 3), (4000, importance, MAX_CORRECTIONS + 2)):
        whole.clear()
        encoded = codec.encode_detailed(image, size_bytes=target, importance=regions)
        assert 0.98 * target <= len(encoded.data) <= target
        assert "effort 1" in encoded.notes[0]
        assert sum(whole) <= most < len(whole)
        assert encoded.data == codec.encode(image, size_bytes=target, importance=regions, effort=1)
    plain = codec.encode_detailed(image, size_bytes=10**6)
    assert "best quality" in plain.notes[-1]
