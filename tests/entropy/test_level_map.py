"""The level map: lossless at any size, small where regions are simple, safe on any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import Limits, decode_level_map, encode_level_map
from rcodec_jax.errors import BitstreamError, CorruptPayloadError, LimitError, RcodecError


def coded_size(level_map: np.ndarray, count: int) -> int:
    data = encode_level_map(level_map, count)
    back = decode_level_map(data, *level_map.shape, count)
    assert back.dtype == np.uint8
    assert np.array_equal(back, level_map)
    return len(data)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 16),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.integers(0, 1000),
)
def test_round_trip(h: int, w: int, count: int, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count, (-(-h // side), -(-w // side))).astype(np.uint8)
    coded_size(coarse.repeat(side, 0).repeat(side, 1)[:h, :w], count)


def test_one_level_takes_no_bytes() -> None:
    assert encode_level_map(np.zeros((64, 96), np.uint8), 1) == b""
    assert not decode_level_map(b"", 64, 96, 1).any()
    with pytest.raises(CorruptPayloadError):
        decode_level_map(b"\0", 64, 96, 1)


@pytest.mark.parametrize("count,value", [(2, 0), (2, 1), (16, 0), (16, 7), (16, 15)])
def test_a_constant_map_is_a_few_bytes(count: int, value: int) -> None:
    assert coded_size(np.full((64, 96), value, np.uint8), count) <= 5


def test_a_box_is_about_ten_bytes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        top, left = rng.integers(0, 40), rng.integers(0, 70)
        level_map = np.ones((64, 96), np.uint8)
        level_map[top : top + rng.integers(1, 24), left : left + rng.integers(1, 26)] = 0
        assert coded_size(level_map, 2) <= 10
        assert coded_size(level_map * 15, 16) <= 12


def test_an_object_is_well_under_a_hundred_bytes() -> None:
    """A blob with a wavy outline and a limb, on 60x80 cells."""
    y, x = np.mgrid[:60, :80]
    angle = np.arctan2(y - 32, x - 38)
    radius = 17 + 3 * np.sin(3 * angle) + 2 * np.sin(7 * angle + 1)
    inside = np.hypot(y - 32, x - 38) < radius
    inside |= (abs(y - x * 0.4 - 10) < 2.5) & (x > 45) & (x < 74)
    assert coded_size((~inside).astype(np.uint8), 2) < 80


def test_coarse_maps_cost_no_more_than_their_entries() -> None:
    coarse = np.random.default_rng(1).integers(0, 2, (8, 12)).astype(np.uint8)
    fine = coarse.repeat(8, 0).repeat(8, 1)
    assert coded_size(fine, 2) <= coded_size(coarse, 2) + 1


def test_noise_costs_little_more_than_raw() -> None:
    level_map = np.random.default_rng(2).integers(0, 16, (64, 96)).astype(np.uint8)
    assert coded_size(level_map, 16) < 64 * 96 / 2 * 1.2


@pytest.mark.parametrize(
    "level_map,count",
    [
        (np.zeros((2, 2), np.uint8), 0),
        (np.zeros((2, 2), np.uint8), 17),
        (np.full((2, 2), 2, np.uint8), 2),
        (np.zeros((2, 2), np.float32), 2),
        (np.zeros((0, 2), np.uint8), 2),
        (np.zeros(4, np.uint8), 2),
        (np.full((2, 2), -1, np.int8), 2),
    ],
)
def test_improper_maps_are_named(level_map: np.ndarray, count: int) -> None:
    with pytest.raises(RcodecError, match="expected"):
        encode_level_map(level_map, count)


def test_sizes_are_checked_first() -> None:
    for h, w in ((0, 4), (2**30, 2**30), (2100, 2100)):
        with pytest.raises(LimitError):
            decode_level_map(b"\x12\x34", h, w, 2)
    with pytest.raises(LimitError):
        decode_level_map(b"", 100, 100, 2, limits=Limits(max_pixels=1000))


@given(st.binary(max_size=60), st.integers(1, 16), st.integers(1, 30), st.integers(1, 30))
def test_any_bytes_give_a_map_or_an_error(data: bytes, count: int, h: int, w: int) -> None:
    try:
        level_map = decode_level_map(data, h, w, count)
    except BitstreamError:
        return
    assert level_map.shape == (h, w) and level_map.max() < count


def test_trailing_and_missing_bytes_are_seen() -> None:
    level_map = np.random.default_rng(3).integers(0, 3, (12, 12)).astype(np.uint8)
    data = encode_level_map(level_map, 3)
    for damaged in (data + b"\0", data + b"\1", data[:-3], data[:5]):
        with pytest.raises(CorruptPayloadError):
            decode_level_map(damaged, 12, 12, 3)
