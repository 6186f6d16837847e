"""The budget search: never above the target, within eight probes, the best there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcodec_jax.errors import UsageError
from rcodec_jax.regions.budget import MAX_CORRECTIONS, fit_base, fit_by_sample, is_short, why_short


def counted(sizes):
    calls = []

    def size_of(node):
        calls.append(node)
        return sizes[node]

    return size_of, calls


def curve(rng):
    """Sizes like a codec's: a fixed part, and one that falls a bit under 1 % a node."""
    scale, rate = rng.uniform(500, 200_000), rng.uniform(0.006, 0.014)
    fixed, bend = rng.uniform(20, 200), rng.uniform(0, 1)
    decay = np.exp(-rate * np.arange(1024))
    return np.ceil(fixed + scale * (decay * (1 - bend) + bend * np.log1p(20 * decay)))


def test_real_curves_give_the_best_node():
    rng = np.random.default_rng(0)
    exact = 0
    for _ in range(300):
        sizes = curve(rng)
        target = math.exp(rng.uniform(math.log(sizes[-1]), math.log(sizes[0])))
        size_of, calls = counted(sizes)
        fit = fit_base(size_of, target, (0, 1023))
        best = sizes[sizes <= target].max()
        size = sizes[fit.base]
        assert size <= target and len(calls) <= 8
        assert size >= best * 0.98 - 16  # what the command line promises of a budget
        exact += size == best
    assert exact >= 290


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=300),
    st.integers(1, 10**6),
)
def test_any_falling_sizes(values, target):
    sizes = sorted(values, reverse=True)
    size_of, calls = counted(sizes)
    node_range = (0, len(sizes) - 1)
    if sizes[-1] > target:
        with pytest.raises(UsageError, match=f"{sizes[-1]} to .* got {target}"):
            fit_base(size_of, target, node_range)
    else:
        fit = fit_base(size_of, target, node_range)
        assert fit.base in calls and sizes[fit.base] <= target
        assert fit.at_best == (fit.base == 0)
        if sizes[0] < target:
            assert fit.base == 0
    assert len(calls) == len(set(calls)) <= 8


def test_bisection_is_good_enough_when_the_curve_is_a_cliff():
    for cliff in (1, 100, 511, 900, 1023):
        size_of, calls = counted([1000] * cliff + [10] * (1024 - cliff))
        assert fit_base(size_of, 500, (0, 1023)).base >= cliff and len(calls) <= 8


def test_above_the_range_is_the_best_node_and_below_is_an_error():
    sizes = 1000.0 * 0.99 ** np.arange(1024)
    size_of, calls = counted(sizes)
    fit = fit_base(size_of, 5000, (100, 900))
    assert (fit.base, fit.at_best) == (100, True)
    assert len(calls) <= 4
    # The message names the range: sizes at nodes 900 and 100, rounded up.
    with pytest.raises(UsageError, match=r"1 to 367 bytes of this image, got 0\.05"):
        fit_base(lambda node: sizes[node], 0.05, (100, 900))


def test_tolerance_saves_probes():
    rng = np.random.default_rng(1)
    exact, close = 0, 0
    for _ in range(100):
        sizes = curve(rng)
        target = math.exp(rng.uniform(math.log(sizes[-1]), math.log(sizes[0])))
        for tolerance in (0, 0.01):
            size_of, calls = counted(sizes)
            assert sizes[fit_base(size_of, target, (0, 1023), tolerance=tolerance).base] <= target
            if tolerance:
                close += len(calls)
            else:
                exact += len(calls)
    assert close < exact


def test_one_node_range():
    assert fit_base(lambda node: 10, 10, (5, 5)).base == 5
    with pytest.raises(UsageError, match="10 to 10"):
        fit_base(lambda node: 10, 9, (5, 5))


def test_bad_arguments():
    for target in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="target"):
            fit_base(lambda node: 1, target, (0, 9))
    with pytest.raises(UsageError, match="9..0"):
        fit_base(lambda node: 1, 5, (9, 0))


def test_a_start_that_is_close_enough_is_the_only_probe():
    probes = []

    def size_of(node):
        probes.append(node)
        return 1e6 * 0.99**node

    best = fit_base(size_of, 5e4, (0, 1023)).base
    probes.clear()
    assert fit_base(size_of, 5e4, (0, 1023), tolerance=0.02, start=best + 1).base == best + 1
    assert probes == [best + 1]
    for start in (0, best - 40, best + 3, 5000):  # beyond the range: from its end
        assert fit_base(size_of, 5e4, (0, 1023), start=start).base == best


def test_a_sample_finds_the_budget_in_few_sizes():
    """Of estimates that are off by some factor, and a little by chance; a node may be more than
    the tolerance, so that no size is within it."""
    rng = np.random.default_rng(3)
    taken = []
    for _ in range(100):
        sizes = curve(rng)
        size_of, calls = counted(sizes)
        rough = sizes * rng.uniform(0.6, 1.6) * rng.uniform(0.998, 1.002, sizes.size)
        target = rng.uniform(sizes[900], sizes[100])
        fit = fit_by_sample(size_of, lambda n, r=rough: r[n], target, (0, 1023), tolerance=0.018)
        assert len(calls) <= MAX_CORRECTIONS
        if fit is not None:
            assert fit.base in calls and sizes[fit.base] <= target
            near = sizes[fit.base] >= 0.982 * target
            assert near or fit.at_best or sizes[fit.base - 1] > target
            taken.append(len(calls))
    assert len(taken) >= 98 and np.mean(taken) < 2.5
    assert fit_by_sample(size_of, size_of, 1.0, (0, 1023), tolerance=0.018) is None


def test_a_sample_that_leads_to_the_same_node_asks_its_neighbour():
    """As of a photo of 24 megapixels: 98.1 % of the budget at one node, above it at the next."""
    sizes = 300_000 * np.exp(-0.0125 * (np.arange(1024) - 640.5))
    target = 300_000 * 1.005
    size_of, calls = counted(sizes)
    fit = fit_by_sample(size_of, lambda n: sizes[n] * 1.156, target, (0, 1023), tolerance=0.004)
    assert fit is not None and fit.base == 641 and len(calls) <= 3


def test_files_far_below_their_budget_say_why() -> None:
    assert not is_short(98, 100) and not is_short(84, 100)
    assert is_short(83, 100) and is_short(9799, 10_000)
    assert why_short(700, 1200.0, 2023.5) == (
        "the budget of 1200 bytes cannot be met closely: sizes of this picture jump there, "
        "from 700 to 2024 bytes"
    )
    assert "encoded at its best quality, 700 bytes" in why_short(700, 1200, None)
