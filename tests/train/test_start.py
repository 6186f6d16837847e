"""What a run begins with when it begins from weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.config.train import MeshConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.bundle import load_bundle
from rcodec_jax.model.networks import parameter_shapes, tracked_ranges
from rcodec_jax.model.trained import kind_of, load_trained
from rcodec_jax.model.trees import flatten
from rcodec_jax.model.weights import open_weights
from rcodec_jax.model.weights_writer import WeightsWriter
from rcodec_jax.train.input.batches import open_sources, stage_batches, stage_mixture
from rcodec_jax.train.loop.initial import starting_state
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.statistics import Stats

SHIFT = np.array([0.5, -1.0, 2.0])


@pytest.fixture
def weights(tools, tmp_path) -> Path:
    """Weights of the tests' model in half precision of both kinds."""
    config = tools.config("codec").model
    rng = np.random.default_rng(0)
    tracked = dict.fromkeys(tracked_ranges(config), 3.0)
    with WeightsWriter(
        tmp_path / "weights", config, shift=SHIFT, power=4.0, ranges=tracked
    ) as writer:
        for i, (name, shape) in enumerate(parameter_shapes(config).items()):
            kind = (np.float16, ml_dtypes.bfloat16)[i % 2]
            writer.add(name, rng.standard_normal(shape).astype(kind))
    return tmp_path / "weights"


def test_the_shipped_model_goes_by_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kind_of("shipped") == "bundle"
    shipped = load_trained("shipped", entropy=False)
    assert shipped.config == load_bundle().config and shipped.card == load_bundle().card
    (tmp_path / "shipped").mkdir()
    with pytest.raises(UsageError, match="shipped: expected the folder of"):
        kind_of("shipped")


@pytest.mark.parametrize(("optimizer", "ema"), [("adam", 0.99), ("adafactor", None)])
def test_a_run_from_weights_begins_with_them(tools, weights, tmp_path, optimizer, ema) -> None:
    """On a mesh too: parameters bit by bit, averages like them, an optimiser that knows nothing."""
    config = tools.config(
        "codec", init_from=str(weights), ema_decay=ema, optimizer=optimizer,
        mesh=MeshConfig(data=2, fsdp=4),
    )  # fmt: skip
    setup = Setup.of(config)
    with Checkpoints(tmp_path / "run") as checkpoints:
        state, step, data = starting_state(setup, checkpoints)
    assert (step, data, int(state.step)) == (0, None, 0)
    given, found = open_weights(weights), flatten(state.params)
    assert set(found) == set(given.names)
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, given.read(name).astype(np.float32))
    assert (state.ema is None) == (ema is None)
    if ema is not None:
        jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    np.testing.assert_array_equal(state.stats.shift, SHIFT.astype(np.float32))
    assert float(state.stats.power) == 4.0 and float(state.stats.ranges["conv_0_out"]) == 3.0
    expected = setup.initial_state()
    for ours, fresh in zip(jax.tree.leaves(state.opt), jax.tree.leaves(expected.opt), strict=True):
        np.testing.assert_array_equal(ours, fresh)
    assert jax.tree.map(lambda x: x.sharding, state) == setup.shardings


def test_weights_of_another_model_are_refused(tools, weights, tmp_path) -> None:
    config = tools.config("codec", init_from=str(weights))
    other = dataclasses.replace(config.model, latent_channels=2)
    setup = Setup.of(dataclasses.replace(config, model=other))
    with (
        Checkpoints(tmp_path / "run") as checkpoints,
        pytest.raises(UsageError, match="model.latent_channels: expected 2.*got 3"),
    ):
        starting_state(setup, checkpoints)


def test_one_batch_does_not_replace_imported_statistics() -> None:
    stats = Stats(jnp.zeros(3), jnp.ones(()), {})
    observed = statistics.Observed(jnp.ones(3), jnp.full((), 2.0), None)
    for warm, share in ((True, 0.01), (False, 0.9)):
        after = statistics.update(stats, observed, jnp.zeros((), jnp.int32), warm=warm)
        np.testing.assert_allclose(after.shift, share, rtol=1e-5)
        np.testing.assert_allclose(after.power, 1 + share, rtol=1e-5)


def test_any_seed_does_for_a_later_stage(pictures, tools) -> None:
    config = tools.config("autoencoder", "codec", seed=2**32 - 1)
    mixture = stage_mixture(open_sources(config, pictures), config.train.stages[1])
    stage_batches(config, 1, mixture, scale.make_mesh(1)).close()
