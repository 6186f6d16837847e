"""The map sampler: shares of the kinds, ranges, reproducibility."""

import collections

import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.levels import MAX_LEVELS, level_nodes
from rcodec_jax.regions.sampler import FRACTIONS, MapSampler, draw_kind


def test_shares_are_those_of_the_design():
    assert FRACTIONS == {
        "uniform": 0.2, "regions": 0.15, "gradient": 0.15, "blobs": 0.3, "masks": 0.2,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    counts = collections.Counter(draw_kind(rng) for _ in range(10_000))
    for kind, share in FRACTIONS.items():
        # Five standard deviations of a binomial count.
        assert abs(counts[kind] - 10_000 * share) < 5 * np.sqrt(10_000 * share * (1 - share))


@pytest.mark.parametrize(("h", "w"), [(16, 16), (1, 1), (1, 9), (7, 3)])
@pytest.mark.parametrize("node_range", [(0, 1023), (100, 130), (40, 40)])
def test_every_map_is_one_that_a_file_can_carry(h, w, node_range):
    sampler = MapSampler(node_range)
    rng = np.random.default_rng(1)
    for kind in [*FRACTIONS] * 8:
        drawn = sampler.sample(rng, h, w, kind=kind)
        assert drawn.level_map.shape == (h, w) and drawn.level_map.dtype == np.uint8
        assert 1 <= drawn.level_count <= MAX_LEVELS
        assert drawn.level_map.max() < drawn.level_count
        assert node_range[0] <= drawn.n_lo <= drawn.n_hi <= node_range[1]
    for _ in range(20):
        level_map, nodes = sampler(rng, h, w)
        assert nodes.shape == (16,) and nodes.dtype == np.int32
        assert (np.diff(nodes) >= 0).all()
        assert level_map.shape == (h, w) and level_map.dtype == np.uint8


def test_padded_nodes_repeat_the_last():
    sampler = MapSampler((0, 1023))
    for seed in range(30):
        drawn = sampler.sample(np.random.default_rng(seed), 8, 8)
        level_map, nodes = sampler(np.random.default_rng(seed), 8, 8)
        np.testing.assert_array_equal(level_map, drawn.level_map)
        used = level_nodes(drawn.n_lo, drawn.n_hi, drawn.level_count)
        np.testing.assert_array_equal(nodes[: drawn.level_count], used)
        assert (nodes[drawn.level_count :] == drawn.n_hi).all()


def test_uniform_nodes_are_uniform_over_the_range():
    sampler = MapSampler((100, 899))
    rng = np.random.default_rng(2)
    nodes = [sampler.sample(rng, 4, 4, kind="uniform").n_lo for _ in range(4000)]
    counts = np.histogram(nodes, bins=8, range=(100, 900))[0]
    assert abs(counts - 500).max() < 5 * np.sqrt(500)
    assert min(nodes) < 105 and max(nodes) > 894


def test_all_maps_together_leave_no_node_untrained():
    sampler = MapSampler((0, 1023))
    rng = np.random.default_rng(3)
    counts = np.zeros(8)
    for _ in range(1500):
        level_map, nodes = sampler(rng, 8, 8)
        counts += np.histogram(nodes[level_map], bins=8, range=(0, 1024))[0]
    share = counts / counts.sum()
    assert share.min() > 0.06 and share.max() < 0.2  # 0.125 were exactly even


@pytest.mark.parametrize("kind", ["regions", "gradient", "blobs", "masks"])
def test_spatial_kinds_vary_over_the_map(kind):
    sampler = MapSampler((0, 1023))
    rng = np.random.default_rng(4)
    counts = [sampler.sample(rng, 16, 16, kind=kind).level_count for _ in range(100)]
    assert np.mean(np.array(counts) > 1) > 0.8
    if kind == "masks":
        assert np.mean(np.array(counts) == 2) > 0.5
    else:
        assert max(counts) == 16


def test_a_gradient_is_monotone_along_rows_and_columns():
    sampler = MapSampler((0, 1023))
    rng = np.random.default_rng(5)
    for _ in range(20):
        steps = sampler.sample(rng, 12, 9, kind="gradient").node_map.astype(int)
        for axis in (0, 1):
            difference = np.diff(steps, axis=axis)
            assert (difference >= 0).all() or (difference <= 0).all()


def test_a_generator_decides_everything():
    sampler = MapSampler((0, 1023))
    first = [sampler(np.random.default_rng(7), 16, 16) for _ in range(2)]
    for one, other in zip(*first, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_arguments():
    with pytest.raises(UsageError, match="5..1024"):
        MapSampler((5, 1024))
    with pytest.raises(UsageError, match="'squares'"):
        MapSampler((0, 9)).sample(np.random.default_rng(0), 4, 4, kind="squares")


def test_only_the_kinds_that_are_asked_for_are_drawn() -> None:
    rng = np.random.default_rng(5)
    some = ("uniform", "blobs")
    counts = collections.Counter(draw_kind(rng, some) for _ in range(5_000))
    assert set(counts) == set(some)
    assert counts["uniform"] / 5_000 == pytest.approx(0.4, abs=0.03)  # .2 beside .3
    drawn = MapSampler((100, 800), ("uniform",))
    assert all(drawn.sample(rng, 6, 6).level_count == 1 for _ in range(50))
