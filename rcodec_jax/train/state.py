"""What a run carries from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcodec_jax.codec.freezing import Trained
from rcodec_jax.codec.networks import Networks
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.config.train import TrainConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.train.moving import ever_moving


@flax.struct.dataclass
class Stats:
    """Running statistics that freezing needs; no gradient ever sees them.

    Attributes:
      shift: mean of the encoder's output by channel [C].
      power: its variance, averaged over channels [].
      ranges: largest magnitude of each activation of the hyper-synthesis.
    """

    shift: jax.Array
    power: jax.Array
    ranges: dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything a checkpoint holds of a run.

    Attributes:
      step: finished steps n; ~n, negative, once the step after them was not finite.
      params: float32, nested dictionaries by part.
      ema: their running average; None for a run without.
      opt: the optimiser's, of the parameters that any stage of the run moves.
      stats: what freezing needs.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt: Any
    stats: Stats

    @property
    def averaged(self) -> Any:
        """The parameters to use and to freeze."""
        return self.params if self.ema is None else self.ema


def init_state(
    networks: Networks, optimizer: optax.GradientTransformation, config: TrainConfig
) -> TrainState:
    """The state at step 0, a pure function of the seed (also under `jax.eval_shape`)."""
    params = networks.init(jax.random.key(config.seed))
    latent = networks.config.latent_channels
    names = [f"{kind}_{i}_out" for i in range(3) for kind in ("conv", "film")] + ["conv_3_out"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=None if config.ema_decay is None else jax.tree.map(jnp.copy, params),
        opt=optimizer.init(ever_moving(config.stages, params)),
        stats=Stats(
            shift=jnp.zeros(latent),
            power=jnp.ones(()),
            ranges={name: jnp.zeros(()) for name in names},
        ),
    )


def warm_start(state: TrainState, trained: Trained, config: ModelConfig) -> TrainState:
    """The state at step 0 with parameters and statistics of an earlier model, as host arrays.

    Raises:
      UsageError: the earlier model has another shape.
    """
    if dataclasses.replace(trained.config, node_range=config.node_range) != config:
        raise UsageError("train.init_from: expected a model of the same shape, got another")
    params = jax.tree.map(lambda _, new: np.asarray(new, np.float32), state.params, trained.params)
    stats = Stats(
        shift=jnp.asarray(trained.shift, jnp.float32),
        power=jnp.asarray(trained.power, jnp.float32),
        ranges={name: jnp.asarray(value, jnp.float32) for name, value in trained.ranges.items()},
    )
    ema = None if state.ema is None else params
    warm = TrainState(state.step, params, ema, state.opt, stats)
    return jax.tree.map(np.asarray, warm)
