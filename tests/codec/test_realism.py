"""Decoding between a decoder of least error and one of real detail."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import rcodec_jax
from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import UsageError
from rcodec_jax.model.bundle import REALISM


@pytest.fixture(scope="module")
def other_decoder(bundle):
    """A decoder whose pictures differ: the fidelity end's with all parameters a tenth larger."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) * 1.1, bundle.params["decoder"])


@pytest.fixture(scope="module")
def both(bundle, other_decoder) -> Codec:
    return Codec(dataclasses.replace(bundle, params=bundle.params | {REALISM: other_decoder}))


@pytest.fixture(scope="module")
def data(codec, astronaut) -> bytes:
    return codec.encode(astronaut[:96, :64].copy(), quality=60, effort=1)


def test_realism_0_is_the_picture_of_least_error(codec, both, data):
    np.testing.assert_array_equal(both.decode(data, realism=0.0), codec.decode(data))


def test_realism_1_is_the_other_decoder(bundle, other_decoder, both, data):
    alone = Codec(dataclasses.replace(bundle, params=bundle.params | {"decoder": other_decoder}))
    np.testing.assert_array_equal(both.decode(data, realism=1.0), alone.decode(data))


def test_in_between_parameters_are_mixed(bundle, other_decoder, both, data):
    mixed = jax.tree.map(
        lambda a, b: np.float32(0.75) * np.asarray(a) + np.float32(0.25) * b,
        bundle.params["decoder"],
        other_decoder,
    )
    alone = Codec(dataclasses.replace(bundle, params=bundle.params | {"decoder": mixed}))
    difference = both.decode(data, realism=0.25).astype(int) - alone.decode(data)
    assert np.abs(difference).max() <= 1  # rounding of the mixture alone


def test_a_model_without_it_says_so(codec, data):
    with pytest.raises(UsageError, match="no realism end"):
        codec.decode(data, realism=0.5)


def test_the_shipped_model_has_one_that_sharpens(astronaut):
    """More detail: the pictures' differences of neighbours grow with the realism."""
    codec = rcodec_jax.load()
    data = codec.encode(astronaut[:96, :64].copy(), quality=40, effort=1)
    pictures = [codec.decode(data, realism=realism).astype(float) for realism in (0.0, 0.5, 1.0)]
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert detail[0] < detail[1] < detail[2]


@pytest.mark.parametrize("realism", [-0.1, 1.1, float("nan")])
def test_realism_outside_0_to_1_is_refused(both, data, realism):
    with pytest.raises(UsageError, match=r"0\.\.1"):
        both.decode(data, realism=realism)
