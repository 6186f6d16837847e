"""The dither: Philox4x64-10 as published, in raster order, unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.entropy import DITHER_KEY, dither_indices, dither_values

MASK = (1 << 64) - 1


def philox_words(count: int) -> list[int]:
    """Philox4x64-10 (Salmon et al., SC 2011) in Python integers, first counter value 1."""
    words: list[int] = []
    counter = 0
    while len(words) < count:
        counter += 1
        c0, c1, c2, c3 = counter, 0, 0, 0
        k0, k1 = DITHER_KEY
        for _ in range(10):
            p0, p1 = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
            c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
        words += [c0, c1, c2, c3]
    return words[:count]


def test_indices_are_the_top_bits_of_philox() -> None:
    indices = dither_indices(5, 3, 7)
    assert indices.shape == (5, 3, 7) and indices.dtype == np.uint8
    assert indices.reshape(-1).tolist() == [word >> 58 for word in philox_words(105)]


def test_long_and_short_draws_agree() -> None:
    long = dither_indices(1, (1 << 20) + 9, 1).reshape(-1)
    assert np.array_equal(long[:500], dither_indices(10, 10, 5).reshape(-1))
    assert (
        long[-9:].tolist()
        == np.random.Philox(key=np.array(DITHER_KEY, np.uint64))
        .random_raw(long.size)[-9:]
        .__rshift__(np.uint64(58))
        .tolist()
    )


def test_values_are_symmetric_and_uniform() -> None:
    g = dither_values(np.arange(64))
    assert np.array_equal(g, -g[::-1])
    assert g[0] == -63 / 128 and g[1] - g[0] == 1 / 64
    drawn = np.bincount(dither_indices(100, 100, 16).reshape(-1), minlength=64)
    assert np.abs(drawn / 2500 - 1).max() < 0.1


@pytest.mark.parametrize("shape", [(9, 7, 5), (6, 4, 64)])
def test_rows_of_a_picture_have_its_dither(shape: tuple[int, int, int]) -> None:
    whole = dither_indices(*shape)
    for top in range(shape[0]):
        part = dither_indices(shape[0] - top, *shape[1:], top=top)
        np.testing.assert_array_equal(part, whole[top:])
