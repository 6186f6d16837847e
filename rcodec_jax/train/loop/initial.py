"""The state a run begins with: a checkpoint's, an earlier model's, or one from the seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.model.networks import tracked_ranges
from rcodec_jax.model.trained import Trained, load_trained
from rcodec_jax.model.trees import flatten, unflatten
from rcodec_jax.train.loop.growing import (
    grow,
    grow_shift,
    needs_growing,
    obstacles,
    parts_with_new_layers,
)
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.state import TrainState, first_state
from rcodec_jax.train.step.statistics import Stats


def starting_state(setup: Setup, checkpoints: Checkpoints) -> tuple[TrainState, int, Any]:
    """Where a run goes on, or begins.

    Returns:
      The state on the mesh, finished steps, and the state of the data iterator (None at step 0).

    Raises:
      RcodecError: a checkpoint of a step that was not finite.
    """
    step = checkpoints.latest_step() or 0
    if step:
        state, data_state = checkpoints.restore(step, setup.abstract_state)
        if int(state.step) < 0:
            raise RcodecError(
                f"the checkpoint of step {step} holds a step that was not finite; remove it, so "
                "that the run goes on from the one before"
            )
        return state, step, data_state
    if setup.config.train.init_from:
        return _warm_state(setup, load_trained(setup.config.train.init_from)), 0, None
    return setup.initial_state(), 0, None


def _warm_state(setup: Setup, trained: Trained) -> TrainState:
    """The state at step 0 with parameters and statistics of an earlier model.

    Random parameters are never made, and the earlier ones are read and placed one at a time: beside
    the state there is only the largest of them.
    """
    trained = _fitting(trained, setup)
    stats = _trained_stats(trained, setup.config.model)
    params = jax.tree.map(
        lambda leaf, sharding: scale.place(np.asarray(leaf, np.float32), sharding),
        trained.params,
        setup.shardings.params,
    )

    def begin(params: Any) -> TrainState:
        state = first_state(params, setup.networks, setup.optimizer, setup.config.train)
        return dataclasses.replace(state, params=None)

    shardings = dataclasses.replace(setup.shardings, params=None)
    state = jax.jit(begin, out_shardings=shardings)(params)
    stats = scale.place(stats, setup.shardings.stats)
    return dataclasses.replace(state, params=params, stats=stats)


def _fitting(trained: Trained, setup: Setup) -> Trained:
    """An earlier model, grown into that of the recipe where the recipe's is larger.

    Raises:
      UsageError: the earlier model has another shape, and cannot grow into it.
    """
    old, new = trained.config, setup.config.model
    for change in obstacles(old, new):
        raise UsageError(
            f"train.init_from: model.{change.path}: expected {change.new}, as the recipe has "
            f"it, got {change.old}"
        )
    if not needs_growing(old, new):
        return trained
    added = parts_with_new_layers(old, new)
    initial = flatten(setup.networks.init(jax.random.key(setup.config.train.seed), added))
    _, ranges = trained.entropy_model()
    params = grow(flatten(trained.params), old, new, power=trained.power, initial=initial)
    return dataclasses.replace(
        trained,
        config=new,
        params=unflatten(params),
        shift=grow_shift(trained.shift, new.latent_channels),
        ranges=ranges,
    )


def _trained_stats(trained: Trained, config: ModelConfig) -> Stats:
    """The statistics of an earlier model, to train on from it; ranges are 0 of what it grew."""
    _, ranges = trained.entropy_model()
    ranges = {name: ranges.get(name, 0.0) for name in tracked_ranges(config)}
    return Stats(
        shift=jnp.asarray(trained.shift, jnp.float32),
        power=jnp.asarray(trained.power, jnp.float32),
        ranges={name: jnp.asarray(value, jnp.float32) for name, value in ranges.items()},
    )
