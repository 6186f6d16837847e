"""Decoding between decoders of least error and of real detail."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

import rcodec_jax
from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import UsageError
from rcodec_jax.model.ends import FIDELITY, REALISM


@pytest.fixture(scope="module")
def ends(bundle) -> dict[str, Any]:
    """Decoders whose pictures differ: the model's with its parameters a tenth larger or smaller."""
    own = bundle.params["decoder"]
    scales = {FIDELITY: 0.9, REALISM: 1.1}
    return {end: jax.tree.map(lambda a, s=s: np.asarray(a) * s, own) for end, s in scales.items()}


@pytest.fixture(scope="module")
def with_ends(bundle, ends) -> Codec:
    return Codec(dataclasses.replace(bundle, params=bundle.params | ends))


@pytest.fixture(scope="module")
def data(codec, astronaut) -> bytes:
    return codec.encode(astronaut[:96, :64].copy(), quality=60, effort=1)


def test_the_default_is_the_decoder_itself(codec, with_ends, data):
    own = codec.decode(data)
    np.testing.assert_array_equal(with_ends.decode(data), own)
    np.testing.assert_array_equal(with_ends.decode(data, realism=0.5), own)


@pytest.mark.parametrize("end, realism", [(FIDELITY, 0.0), (REALISM, 1.0)])
def test_at_the_ends_another_decoder_decodes(bundle, ends, with_ends, data, end, realism):
    alone = Codec(dataclasses.replace(bundle, params=bundle.params | {"decoder": ends[end]}))
    np.testing.assert_array_equal(with_ends.decode(data, realism=realism), alone.decode(data))


@pytest.mark.parametrize("end, realism", [(FIDELITY, 0.375), (REALISM, 0.625)])
def test_in_between_parameters_are_mixed(bundle, ends, with_ends, data, end, realism):
    mixed = jax.tree.map(
        lambda a, b: np.float32(0.75) * np.asarray(a) + np.float32(0.25) * b,
        bundle.params["decoder"],
        ends[end],
    )
    alone = Codec(dataclasses.replace(bundle, params=bundle.params | {"decoder": mixed}))
    difference = with_ends.decode(data, realism=realism).astype(int) - alone.decode(data)
    assert np.abs(difference).max() <= 1  # rounding of the mixture alone


@pytest.mark.parametrize("end, realism", [("fidelity", 0.49), ("realism", 0.51)])
def test_a_model_without_an_end_says_so(codec, data, end, realism):
    with pytest.raises(UsageError, match=f"no {end} end"):
        codec.decode(data, realism=realism)


def test_the_shipped_model_goes_from_least_error_to_more_detail(astronaut):
    """Errors grow with the realism, and so do the pictures' differences of neighbours."""
    codec = rcodec_jax.load()
    original = astronaut[:256, :256].copy()
    data = codec.encode(original, quality=40, effort=1)
    pictures = [codec.decode(data, realism=realism).astype(float) for realism in (0, 0.5, 1)]
    errors = [np.square(picture - original).mean() for picture in pictures]
    assert errors[0] < errors[1] < errors[2]
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert detail[0] < detail[1] < detail[2]


@pytest.mark.parametrize("realism", [-0.1, 1.1, float("nan")])
def test_realism_outside_0_to_1_is_refused(with_ends, data, realism):
    with pytest.raises(UsageError, match=r"0\.\.1"):
        with_ends.decode(data, realism=realism)
