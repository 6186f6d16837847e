"""Hyper-latents from coarse to fine: lossless in any shape, and worth it where they are smooth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import StaticTables
from rcodec_jax.entropy.integer.hyper import coding_order, from_symbols, to_symbols
from rcodec_jax.errors import CorruptPayloadError
from rcodec_jax.passes import STRIDES, first_half, hyper_order, second_half

WEIGHT = np.array([256, 100, 0, -300], np.int16)


def tables(classes: int) -> StaticTables:
    count = np.full((WEIGHT.size, 4 * classes), 9)
    freq = np.full(count.sum(), 7000)
    return StaticTables(count * 0 - 4, count, freq)


def reader(symbols: np.ndarray):
    """Gives the symbols in order, whatever the tables."""
    rest = list(symbols)

    def read(asked: np.ndarray) -> np.ndarray:
        out = np.array([rest.pop(0) for _ in range(asked.size)], np.int64)
        return out

    return read


@given(st.integers(1, 19), st.integers(1, 19), st.integers(0, 10**6))
def test_any_shape_comes_back(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.integers(-40, 41, (height, width, WEIGHT.size)).astype(np.int32)
    classes = rng.integers(0, 3, (height, width)).astype(np.uint8)
    symbols, chosen = to_symbols(tables(3), WEIGHT, classes, z)
    order = coding_order(WEIGHT, height, width)
    asked = []

    def read(numbers: np.ndarray) -> np.ndarray:
        asked.append(numbers)
        return source(numbers)

    source = reader(symbols.reshape(-1, WEIGHT.size)[order].reshape(-1))
    assert np.array_equal(from_symbols(tables(3), WEIGHT, classes, read), z)
    assert np.array_equal(np.concatenate(asked), chosen.reshape(-1, WEIGHT.size)[order].reshape(-1))


@given(st.integers(1, 40), st.integers(1, 40))
def test_neighbours_are_known_before(height: int, width: int) -> None:
    number, corners = hyper_order(height, width)
    assert sorted(coding_order(WEIGHT, height, width)) == list(range(height * width))
    later = number > 0
    assert (number.reshape(-1)[corners] < number)[:, later].all()
    assert number[0, 0] == 0 and set(np.unique(number)) <= set(range(len(STRIDES)))


def test_flat_hyper_latents_cost_nothing_after_the_first_grid() -> None:
    """A weight of one predicts what does not change, in the context of neighbours that agree."""
    z = np.full((17, 20, WEIGHT.size), 7, np.int32)
    symbols, chosen = to_symbols(tables(1), WEIGHT, np.zeros((17, 20), np.uint8), z)
    later = hyper_order(17, 20)[0] > 0
    assert not symbols[later][:, 0].any() and (symbols[~later] == 7).all()
    assert (chosen[later][:, 0] == 1).all() and (chosen[~later][:, 0] == 0).all()


def test_a_hyper_latent_out_of_range_is_damage() -> None:
    classes = np.zeros((8, 16), np.uint8)
    symbols = np.full(8 * 16 * WEIGHT.size, 32767)
    with pytest.raises(CorruptPayloadError, match="32767"):
        from_symbols(tables(1), WEIGHT, classes, reader(symbols))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 300, 3), (2, 2, 64)])
def test_halves_are_even_and_odd(shape: tuple[int, int, int]) -> None:
    first = first_half(*shape)
    assert np.array_equal(first, np.indices(shape).sum(axis=0) % 2 == 0)
    assert np.array_equal(second_half(*shape), ~first)
