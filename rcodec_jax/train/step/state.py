"""What a run carries from step to step."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rcodec_jax.config.train import TrainConfig
from rcodec_jax.model.networks import Networks, tracked_ranges
from rcodec_jax.train.step.statistics import Stats
from rcodec_jax.train.step.trainable import ever_moving


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
    return first_state(networks.init(jax.random.key(config.seed)), networks, optimizer, config)


def first_state(
    params: Any, networks: Networks, optimizer: optax.GradientTransformation, config: TrainConfig
) -> TrainState:
    """The state at step 0 of given parameters."""
    latent = networks.config.latent_channels
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=None if config.ema_decay is None else jax.tree.map(jnp.copy, params),
        opt=optimizer.init(ever_moving(config.stages, params)),
        stats=Stats(
            shift=jnp.zeros(latent),
            power=jnp.ones(()),
            ranges={name: jnp.zeros(()) for name in tracked_ranges(networks.config)},
        ),
    )
