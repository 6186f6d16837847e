"""Training of both ends of a decoder, on a tiny model and for an instant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from rcodec_jax.cli.main import main
from rcodec_jax.model.bundle import load_bundle
from rcodec_jax.model.ends import FIDELITY, REALISM
from rcodec_jax.model.freezing import save_changed
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.unfreezing import unfreeze
from rcodec_jax.ops.pixels import to_bytes
from rcodec_jax.train.realism import (
    Crops,
    RealismConfig,
    carried_over,
    collect,
    extrapolated,
    train_fidelity,
    train_realism,
)

NANO = Path(__file__).parents[1] / "golden" / "nano"
PICTURES = [data.astronaut()[:300, :451], data.chelsea()]  # of one size, compiled once
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
    return collect(networks, params, bundle.shift, bundle.scale, PICTURES, CONFIG)


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
    again = collect(networks, params, bundle.shift, bundle.scale, PICTURES, CONFIG)
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


def test_what_an_end_differs_in_carries_over(model):
    decoder = model[2]["decoder"]
    end = jax.tree.map(lambda leaf: 1.5 * np.asarray(leaf), decoder)
    later = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.25), decoder)
    same, moved = (carried_over(end, decoder, to) for to in (decoder, later))
    for a, b, c in zip(*map(jax.tree.leaves, (end, same, moved)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(c, a + 0.25, rtol=1e-5, atol=1e-6)


def test_beyond_a_decoder_lies_what_it_differs_in_once_more(model):
    decoder = jax.tree.map(np.asarray, model[2]["decoder"])
    end = jax.tree.map(lambda leaf: leaf - np.float32(0.5), decoder)
    for share in (0.0, 0.4):
        for a, b in zip(
            *map(jax.tree.leaves, (extrapolated(end, decoder, share), decoder)), strict=True
        ):
            np.testing.assert_allclose(a, b + 0.5 * share, rtol=1e-5, atol=1e-6)


def test_crops_bring_their_hints(with_hints):
    bundle = with_hints(load_bundle(NANO))
    networks, (hyper, _) = Networks(bundle.config), unfreeze(NANO, bundle)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), bundle.params | hyper)
    config = dataclasses.replace(CONFIG, crops=8)
    scales = bundle.shift, bundle.scale
    crops = collect(networks, params, *scales, [data.astronaut()], config)
    raw, hints = (a.astype(np.float32) for a in (crops.raw, crops.hints))
    pictures = to_bytes(networks.decode(params, raw, hints)).astype(int)
    assert np.abs(pictures - crops.decoded).mean() < 0.1  # halves
    others = to_bytes(networks.decode(params, raw, hints[::-1])).astype(int)
    assert np.abs(others - crops.decoded).mean() > 1


def test_what_an_earlier_decoder_lacked_stays(model):
    decoder = model[2]["decoder"]
    grown = decoder | {"hints_in": {"conv": {"kernel": jnp.ones((1, 1, 3, 16))}}}
    end = jax.tree.map(lambda leaf: leaf + 0.25, decoder)
    moved = carried_over(end, decoder, grown)
    np.testing.assert_array_equal(moved.pop("hints_in")["conv"]["kernel"], 1)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_training_goes_on_from_an_end(model, crops):
    _, networks, params = model
    end = jax.tree.map(lambda leaf: 1.01 * np.asarray(leaf), params["decoder"])
    still = dataclasses.replace(CONFIG, minutes=0.0, fidelity_minutes=0.0)
    given = networks, params["decoder"], crops
    made = (
        train_fidelity(*given, still, initial=end),
        train_realism(*given, _distance, still, initial=end),
    )
    for one in made:
        for a, b in zip(*map(jax.tree.leaves, (one, end)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    moved = train_realism(*given, _distance, CONFIG, initial=end)
    assert _moved(moved, end) > 0


def test_the_command_carries_ends_over(tmp_path, capsys):
    command = ["realism", str(NANO), "--out", str(tmp_path / "later"), "--minutes", "0"]
    assert main([*command, "--fidelity-minutes", "0"]) == 2
    assert "--ends-from" in capsys.readouterr().err
    command += ["--fidelity-minutes", "0", "--ends-from"]
    assert main([*command, str(NANO)]) == 2
    assert "got one without decoder_fidelity" in capsys.readouterr().err

    bundle = load_bundle(NANO)
    own = bundle.params["decoder"]
    ends = {end: jax.tree.map(lambda a: np.asarray(a) * 0.9, own) for end in (FIDELITY, REALISM)}
    earlier = dataclasses.replace(bundle, params=bundle.params | ends)
    save_changed(tmp_path / "earlier", earlier, unfreeze(NANO, bundle))
    assert main([*command, str(tmp_path / "earlier")]) == 0
    later = load_bundle(tmp_path / "later")
    assert later.integers.digest == bundle.integers.digest
    assert later.card["ends"] == {"from": load_bundle(tmp_path / "earlier").float_digest.hex()}
    for end in (FIDELITY, REALISM):
        for a, b in zip(*map(jax.tree.leaves, (later.params[end], ends[end])), strict=True):
            np.testing.assert_allclose(np.asarray(a, np.float32), b, rtol=2e-3, atol=1e-3)

    command[3] = str(tmp_path / "beyond")
    assert main([*command, str(tmp_path / "earlier"), "--extrapolate", "0.5"]) == 0
    beyond = load_bundle(tmp_path / "beyond")
    assert beyond.card["ends"][REALISM] == {"extrapolate": 0.5}
    for a, b in zip(*map(jax.tree.leaves, (beyond.params[REALISM], own)), strict=True):
        wanted = 1.05 * np.asarray(b, np.float32)
        np.testing.assert_allclose(np.asarray(a, np.float32), wanted, rtol=2e-3, atol=1e-3)
