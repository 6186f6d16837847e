"""Training of both ends of a decoder, on a tiny model and for an instant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from rcodec_jax.model.bundle import load_bundle
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.unfreezing import unfreeze
from rcodec_jax.train.realism import (
    Crops,
    RealismConfig,
    collect,
    train_fidelity,
    train_realism,
)

NANO = Path(__file__).parents[1] / "golden" / "nano"
CONFIG = RealismConfig(minutes=0.02, fidelity_minutes=0.02, crops=16, crop_px=32, batch=8)


@pytest.fixture(scope="module")
def model():
    bundle = load_bundle(NANO)
    hyper, _ = unfreeze(NANO, bundle)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), bundle.params | hyper)
    return bundle, Networks(bundle.config), params


@pytest.fixture(scope="module")
def crops(model) -> Crops:
    bundle, networks, params = model
    pictures = [data.astronaut(), data.chelsea()]
    return collect(networks, params, bundle.shift, bundle.scale, pictures, CONFIG)


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(a - b), axis=(1, 2, 3))


def test_crops_decode_to_what_was_collected(model, crops):
    _, networks, params = model
    assert crops.original.shape == crops.decoded.shape == (16, 32, 32, 3)
    assert crops.raw.shape == (16, 4, 4, networks.config.latent_channels)
    decoded = networks.decode(params, crops.raw.astype(np.float32))
    bytes_ = np.clip((np.asarray(decoded) + 1) * 127.5, 0, 255)
    assert np.abs(bytes_ - crops.decoded).max() < 2  # raw is kept in half precision
    error = np.mean(np.square(crops.original.astype(float) - crops.decoded))
    assert error < np.var(crops.original)


def test_the_same_seed_collects_the_same_crops(model, crops):
    bundle, networks, params = model
    pictures = [data.astronaut(), data.chelsea()]
    again = collect(networks, params, bundle.shift, bundle.scale, pictures, CONFIG)
    for a, b in zip(crops, again, strict=True):
        np.testing.assert_array_equal(a, b)


def _moved(made, before) -> float:
    assert jax.tree.structure(made) == jax.tree.structure(before)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(made))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - np.asarray(b)).max()), made, before)
    return max(jax.tree.leaves(moved))


def test_training_moves_the_decoder_and_reports(model, crops):
    _, networks, params = model
    seen = []
    made = train_realism(
        networks, params["decoder"], crops, _distance, CONFIG, report=lambda *a: seen.append(a)
    )
    assert _moved(made, params["decoder"]) > 0
    minutes, steps, figures = seen[-1]
    assert minutes >= CONFIG.minutes and steps >= 1
    assert {"ratio", "lpips", "critic", "weight"} <= set(figures)


def test_the_fidelity_end_has_less_error(model, crops):
    _, networks, params = model
    config = dataclasses.replace(CONFIG, fidelity_minutes=0.05, average=0.5)
    made = train_fidelity(networks, params["decoder"], crops, config)
    assert _moved(made, params["decoder"]) > 0

    def error(decoder) -> float:
        pictures = networks.decode({"decoder": decoder}, crops.raw.astype(np.float32))
        return float(np.square((np.asarray(pictures) + 1) * 127.5 - crops.original).mean())

    assert error(made) < error(params["decoder"])
