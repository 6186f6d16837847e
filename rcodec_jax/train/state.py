"""What a run carries from step to step."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rcodec_jax.codec.networks import RANGES, Networks
from rcodec_jax.codec.trained import Trained
from rcodec_jax.config import changed_fields
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
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=None if config.ema_decay is None else jax.tree.map(jnp.copy, params),
        opt=optimizer.init(ever_moving(config.stages, params)),
        stats=Stats(
            shift=jnp.zeros(latent),
            power=jnp.ones(()),
            ranges={name: jnp.zeros(()) for name in RANGES},
        ),
    )


_NOT_SHAPE = ("node_range", "steps")
"""Fields of a model that its parameters do not depend on."""


def trained_stats(trained: Trained, config: ModelConfig) -> Stats:
    """The statistics of an earlier model, to train on from it.

    Raises:
      UsageError: the earlier model has another shape.
    """
    for change in changed_fields(trained.config, config):
        if not change.path.startswith(_NOT_SHAPE):
            raise UsageError(
                f"train.init_from: model.{change.path}: expected {change.new}, as the recipe has "
                f"it, got {change.old}"
            )
    _, ranges = trained.entropy_model()
    return Stats(
        shift=jnp.asarray(trained.shift, jnp.float32),
        power=jnp.asarray(trained.power, jnp.float32),
        ranges={name: jnp.asarray(value, jnp.float32) for name, value in ranges.items()},
    )
