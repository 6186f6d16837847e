"""The state a run begins with: a checkpoint's, an earlier model's, or one from the seed."""

from __future__ import annotations

from typing import Any

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.codec.freezing import load_trained
from rcodec_jax.train.setup import Setup
from rcodec_jax.train.state import TrainState, warm_start


def starting_state(setup: Setup, checkpoints: Checkpoints) -> tuple[TrainState, int, Any]:
    """Where a run goes on, or begins.

    Returns:
      The state on the mesh, finished steps, and the state of the data iterator (None at step 0).
    """
    step = checkpoints.latest_step() or 0
    if step:
        state, data_state = checkpoints.restore(step, setup.abstract_state)
        return state, step, data_state
    state = setup.initial_state()
    if setup.config.train.init_from:
        trained = load_trained(setup.config.train.init_from)
        state = scale.place(warm_start(state, trained, setup.config.model), setup.shardings)
    return state, 0, None
