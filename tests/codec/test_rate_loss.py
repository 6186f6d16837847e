"""What freezing to integers costs in bytes: nothing to speak of."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from rcodec_jax.errors import BundleError
from rcodec_jax.model.rateloss import MAX_SHARE, NODES, Latents, made_latents, rate_loss
from rcodec_jax.regions.levelmap import uniform_level_map


@pytest.fixture(scope="module")
def latents(codec, astronaut) -> list[Latents]:
    """Those of a picture of 256x256, whose programs other tests compile as well."""
    programs = codec._programs
    y = programs.latent(np.ascontiguousarray(astronaut[:256, :256]))
    maps = [uniform_level_map(*y.shape[:2], node=node) for node in NODES]
    return [Latents(y, programs.hyper(y, levels), levels) for levels in maps]


def test_integers_cost_less_than_three_in_a_thousand(bundle, floats, latents) -> None:
    """On a picture, and on latents made without one, as freezing measures it."""
    integers = bundle.integers
    for measured in (latents, made_latents(integers, NODES)):
        losses = rate_loss(bundle.config, integers, floats, measured)
        for loss, node in zip(losses, NODES, strict=True):
            assert abs(loss.share) < MAX_SHARE, (node, loss)
        floating, integer = (
            sum(loss.float_bits for loss in losses),
            sum(loss.integer_bits for loss in losses),
        )
        assert floating > 10_000 and abs(integer / floating - 1) < 0.001


def test_another_prior_is_seen_in_the_rate(bundle, floats, latents) -> None:
    """The measure would notice: spreads four times too wide cost a lot."""
    other = copy.deepcopy(floats)
    bias = other["hyper_synthesis"]["conv_4"]["conv"]["bias"]
    half = bias.shape[0] // 2
    other["hyper_synthesis"]["conv_4"]["conv"]["bias"] = bias.at[half:].add(2.0)
    for measured, low, high in (
        (latents[1], -np.inf, -0.05),  # the float network is the wrong one
        (made_latents(bundle.integers, [250])[0], 0.05, np.inf),  # y is drawn from it: the right
    ):
        (loss,) = rate_loss(bundle.config, bundle.integers, other, [measured])
        assert low < loss.share < high


def test_freezing_refuses_what_could_round(bundle, floats) -> None:
    """A bias that takes the sums of a layer to 2^53."""
    from rcodec_jax.model.fixedpoint import integer_part

    broken = copy.deepcopy(floats)
    layer = broken["hyper_synthesis"]["conv_2"]["conv"]
    layer["bias"] = np.full(layer["bias"].shape, 3e8)
    with pytest.raises(BundleError, match=r"2\^53"):
        integer_part(bundle.config, broken, broken["ranges"])
