"""What a background's bits buy the region, and how much coarser it may be for it."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.codec.exchange import exchange_rate, span_at
from rcodec_jax.codec.sample import SAMPLE_SIDE, sample_blocks
from rcodec_jax.levels import NODE_SPAN


def rate(codec, image: np.ndarray, importance: np.ndarray, blocks=None) -> float:
    y = codec._programs.latent(image)
    return exchange_rate(codec.bundle, codec._programs, y, importance, blocks=blocks)


@pytest.fixture(scope="module")
def half_smooth(astronaut) -> np.ndarray:
    """uint8 [128, 128, 3]: a photo on the left, a wall on the right."""
    picture = np.full((128, 128, 3), 120, np.uint8)
    picture[:, :64] = astronaut[64:192, 192:256]
    return picture


def test_a_smooth_background_has_little_to_give(codec, half_smooth) -> None:
    left = np.zeros((16, 16), np.float32)
    left[:, :8] = 1
    poor, rich = rate(codec, half_smooth, left), rate(codec, half_smooth, 1 - left)
    assert poor < 1 < rich
    # What is inside for one is outside for the other.
    assert poor * rich == pytest.approx(1, rel=0.01)


def test_importance_that_is_equal_everywhere_exchanges_nothing(codec, half_smooth) -> None:
    for value in (0.0, 0.5, 1.0):
        assert rate(codec, half_smooth, np.full((16, 16), value, np.float32)) == 1


def test_a_part_of_the_importance_is_a_part_of_the_bits(codec, half_smooth) -> None:
    """Levels are affine in the importance, so that half the difference is half the exponent."""
    left = np.zeros((16, 16), np.float32)
    left[:, :8] = 1
    whole = rate(codec, half_smooth, left)
    assert rate(codec, half_smooth, 0.25 + 0.5 * left) == pytest.approx(whole**0.5, rel=1e-5)


def test_a_sample_is_near_the_whole(codec, astronaut) -> None:
    image = np.tile(astronaut, (3, 4, 1))
    blocks = sample_blocks(192, 256)
    assert blocks is not None
    y = codec._programs.latent(image)
    gap = slice(blocks[0][2] + SAMPLE_SIDE, blocks[0][3])
    for region in ((slice(20, 100), slice(30, 180)), (gap, slice(blocks[1][2], blocks[1][4]))):
        importance = np.zeros((192, 256), np.float32)
        importance[region] = 1
        whole, sample = (
            exchange_rate(codec.bundle, codec._programs, y, importance, blocks=b)
            for b in (None, blocks)
        )
        assert sample == pytest.approx(whole, rel=0.3)


def test_the_span_of_a_file_is_what_its_exchange_is_worth(codec, half_smooth) -> None:
    importance = np.zeros((128, 128), np.float32)
    importance[32:96, 16:48] = 1
    cells = importance[::8, ::8]
    for strength in (0.25, 0.5):
        header = codec.encode_detailed(
            half_smooth, quality=80, importance=importance, roi_strength=strength, effort=1
        ).header
        assert header.n_hi - header.n_lo == span_at(rate(codec, half_smooth, cells), strength)


def test_spans_grow_with_strength_and_with_what_they_buy() -> None:
    rates = [1e-9, 0.1, 0.5, 1, 2, 4, 1e9]
    for strength in (0.0, 0.25, 0.5, 1.0):
        spans = [span_at(r, strength) for r in rates]
        assert spans == sorted(spans) and all(0 <= s <= NODE_SPAN for s in spans)
    for r in rates:
        spans = [span_at(r, strength) for strength in np.linspace(0, 1, 21)]
        assert spans == sorted(spans)
        assert (spans[0], spans[-1]) == (0, NODE_SPAN)
