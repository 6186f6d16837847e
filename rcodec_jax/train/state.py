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
from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.errors import UsageError


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
    """Finished steps, parameters, their running average, optimiser state, statistics."""

    step: jax.Array
    params: Any
    ema: Any
    opt: Any
    stats: Stats


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam behind a bound on the gradient's norm; the learning rate is applied by the step."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(b1=0.9, b2=config.b2),
    )


def learning_rate(stage: StageConfig, step_in_stage: jax.Array) -> jax.Array:
    """Linear warm-up, then a cosine down to the stage's final rate."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=stage.learning_rate,
        warmup_steps=min(stage.warmup, max(stage.steps - 1, 1)),
        decay_steps=max(stage.steps, 2),
        end_value=stage.final_learning_rate,
    )
    return jnp.asarray(schedule(step_in_stage + 1))


def init_state(
    networks: Networks, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state at step 0, a pure function of the seed (also under `jax.eval_shape`)."""
    params = networks.init(jax.random.key(seed))
    latent = networks.config.latent_channels
    names = [f"{kind}_{i}_out" for i in range(3) for kind in ("conv", "film")] + ["conv_3_out"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt=optimizer.init(params),
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
    warm = TrainState(state.step, params, params, state.opt, stats)
    return jax.tree.map(np.asarray, warm)
