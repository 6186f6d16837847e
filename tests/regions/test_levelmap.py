"""Level maps: what importance becomes, and what it must never become."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcodec_jax.errors import UsageError
from rcodec_jax.levels import MAX_LEVELS, level_nodes
from rcodec_jax.regions.levelmap import (
    build_level_map,
    cell_shape,
    pool_importance,
    quantise_nodes,
    uniform_level_map,
)

importances = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(0, 1, width=32),
)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_importance_gives_one_level(value):
    built = build_level_map(np.full((4, 6), value), base=300, span=200)
    assert (built.level_count, built.n_lo, built.n_hi) == (1, built.n_lo, built.n_lo)
    assert built.n_lo == 300 + round(200 * (1 - value))
    assert not built.level_map.any() and built.level_map.dtype == np.uint8


def test_binary_importance_gives_two_levels():
    mask = np.zeros((5, 5))
    mask[1:3, 2:4] = 1
    built = build_level_map(mask, base=200, span=300)
    assert (built.level_count, built.n_lo, built.n_hi) == (2, 200, 500)
    np.testing.assert_array_equal(built.level_map, 1 - mask)
    np.testing.assert_array_equal(built.nodes, [200, 500])


@settings(max_examples=30, deadline=None)
@given(importances, st.integers(0, 1023))
def test_a_span_of_zero_is_uniform(importance, base):
    built = build_level_map(importance, base=base, span=0)
    assert (built.level_count, built.n_lo) == (1, base)


def test_none_is_uniform_and_needs_a_shape():
    built = build_level_map(None, base=77, span=700, shape=(3, 4))
    ones = build_level_map(np.ones((3, 4)), base=77, span=700)
    assert (built.n_lo, built.n_hi, built.level_count) == (ones.n_lo, ones.n_hi, ones.level_count)
    np.testing.assert_array_equal(built.level_map, ones.level_map)
    with pytest.raises(UsageError, match="shape"):
        build_level_map(None, base=77, span=700)


@settings(max_examples=150, deadline=None)
@given(
    importance=importances,
    base=st.integers(-100, 1200),
    span=st.floats(0, 1023),
    ends=st.tuples(st.integers(0, 1023), st.integers(0, 1023)),
)
def test_promises_for_any_importance(importance, base, span, ends):
    low, high = sorted(ends)
    built = build_level_map(importance, base=base, span=span, node_range=(low, high))
    assert built.level_map.shape == importance.shape
    assert 1 <= built.level_count <= MAX_LEVELS
    assert low <= built.n_lo <= built.n_hi <= high
    assert built.level_map.max() < built.level_count
    assert (built.nodes == level_nodes(built.n_lo, built.n_hi, built.level_count)).all()
    assert (np.diff(built.nodes) > 0).all()
    # More important is never coarser.
    order = np.argsort(importance.ravel(), kind="stable")
    assert (np.diff(built.node_map.ravel()[order].astype(int)) <= 0).all()
    # The wanted node is missed by at most half a step of the levels.
    wanted = np.clip(base + np.floor(span * (1 - importance.astype(float)) + 0.5), low, high)
    steps = np.diff(built.nodes).max(initial=0)
    assert np.abs(built.node_map - wanted).max() <= (steps + 1) // 2
    assert built.n_lo == wanted.min()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1023), st.integers(0, 1023), st.integers(2, 16))
def test_nodes_that_levels_can_hold_are_kept_exactly(first, second, count):
    nodes = level_nodes(*sorted((first, second)), count)
    built = quantise_nodes(np.resize(nodes, (4, 5)))
    np.testing.assert_array_equal(built.node_map, np.resize(nodes, (4, 5)))
    assert built.level_count <= count


def test_many_nodes_use_all_levels():
    ramp = np.arange(64 * 4).reshape(16, 16) * 3
    built = quantise_nodes(ramp)
    assert (built.level_count, built.n_lo, built.n_hi) == (16, 0, 255 * 3)
    assert np.unique(built.level_map).size == 16
    assert quantise_nodes(ramp, levels=1).n_hi == 0
    for levels in range(2, 17):
        assert quantise_nodes(ramp, levels=levels).level_count == levels
    with pytest.raises(UsageError, match="17"):
        quantise_nodes(ramp, levels=17)


def test_uniform_level_map():
    built = uniform_level_map(2, 3, node=9)
    assert built.nodes.tolist() == [9] and built.level_map.shape == (2, 3)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 7), (16, 23), (41, 64)])
def test_pooling_is_the_maximum_of_each_cell(shape):
    importance = np.random.default_rng(0).random(shape).astype(np.float32)
    h, w = cell_shape(*shape)
    pooled = pool_importance(importance, h, w)
    for row in range(h):
        for column in range(w):
            cell = importance[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert pooled[row, column] == cell.max()


def test_a_single_pixel_is_never_cut():
    importance = np.zeros((20, 20), np.float32)
    importance[19, 8] = 1
    pooled = pool_importance(importance, 3, 3)
    assert pooled[2, 1] == 1 and pooled.sum() == 1


def test_bad_arguments_name_expected_and_given():
    good = {"base": 1, "span": 1}
    for changes, words in [
        ({"span": -1}, "-1"),
        ({"span": float("nan")}, "nan"),
        ({"node_range": (5, 1024)}, "5..1024"),
    ]:
        with pytest.raises(UsageError, match=words):
            build_level_map(np.ones((2, 2)), **{**good, **changes})
    for bad in (np.full((8, 8), 1.1), np.full((8, 8), np.nan), np.full((8, 8), -0.1)):
        with pytest.raises(UsageError, match=r"0\.\.1"):
            pool_importance(bad, 1, 1)
        with pytest.raises(UsageError, match=r"0\.\.1"):
            build_level_map(bad, **good)
    with pytest.raises(UsageError, match=r"2x2 cells.*\[8, 8\]"):
        pool_importance(np.ones((8, 8)), 2, 2)
