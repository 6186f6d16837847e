"""What freezing to integers costs in bytes: nothing to speak of."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from rcodec_jax.codec.rateloss import RateLoss, rate_loss
from rcodec_jax.errors import BundleError


@pytest.fixture(scope="module")
def pictures(astronaut) -> list[np.ndarray]:
    """Two of 256x256, whose programs other tests compile as well."""
    corners = [(0, 0), (128, 64)]
    return [np.ascontiguousarray(astronaut[r : r + 256, c : c + 256]) for r, c in corners]


def test_integers_cost_less_than_three_in_a_thousand(bundle, codec, floats, pictures) -> None:
    found = rate_loss(bundle, floats, pictures, programs=codec._programs)
    for node, loss in found.items():
        assert abs(loss.share) < 0.003, (node, loss)
    total = RateLoss(
        sum(loss.float_bits for loss in found.values()),
        sum(loss.integer_bits for loss in found.values()),
    )
    assert total.float_bits > 10_000 and abs(total.share) < 0.001


def test_another_prior_is_seen_in_the_rate(bundle, codec, floats, pictures) -> None:
    """The measure would notice: spreads four times too wide cost a lot."""
    other = copy.deepcopy(floats)
    bias = other["hyper_synthesis"]["conv_4"]["conv"]["bias"]
    half = bias.shape[0] // 2
    other["hyper_synthesis"]["conv_4"]["conv"]["bias"] = bias.at[half:].add(2.0)
    found = rate_loss(bundle, other, pictures[:1], nodes=[250], programs=codec._programs)
    assert found[250].share < -0.05


def test_freezing_refuses_what_could_round(bundle, floats) -> None:
    """A bias that takes the sums of a layer to 2^53."""
    from rcodec_jax.codec.fixedpoint import integer_part

    broken = copy.deepcopy(floats)
    layer = broken["hyper_synthesis"]["conv_2"]["conv"]
    layer["bias"] = np.full(layer["bias"].shape, 3e8)
    with pytest.raises(BundleError, match=r"2\^53"):
        integer_part(bundle.config, broken, broken["ranges"])
