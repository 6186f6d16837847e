"""One training step of a stage, as a jitted function of state and batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcodec_jax.codec.networks import Networks
from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.train.losses import Perceptual, autoencoder_loss, codec_loss
from rcodec_jax.train.state import TrainState, learning_rate

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]

TRAINED = {
    "autoencoder": ("encoder", "decoder"),
    "codec": ("unet", "hyper_analysis", "hyper_synthesis", "hyper_prior"),
    "joint": ("encoder", "decoder", "unet", "hyper_analysis", "hyper_synthesis", "hyper_prior"),
}
"""Parts whose parameters a kind of stage moves."""


def make_step(
    networks: Networks,
    optimizer: optax.GradientTransformation,
    config: TrainConfig,
    stage: StageConfig,
    first_step: int,
    perceptual: Perceptual | None = None,
) -> Step:
    """The step of one stage, not yet jitted.

    Args:
      networks: the model.
      optimizer: as `make_optimizer` gives it.
      config: the run, for seed and averaging.
      stage: the stage.
      first_step: steps of the run before this stage.
      perceptual: distance for `stage.loss.lpips`.

    Returns:
      (state, batch) -> (state, metrics); all metrics are scalars.
    """
    if stage.kind == "autoencoder":
        loss_of: Any = autoencoder_loss
    else:
        loss_of = functools.partial(codec_loss, joint=stage.kind == "joint")
    trained = TRAINED[stage.kind]

    def step(
        state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed + 1), state.step)
        batch = batch | {"step": state.step}

        def objective(moving: Any) -> Any:
            params = {**state.params, **moving}
            return loss_of(networks, params, state.stats, batch, key, stage.loss, perceptual)

        moving = {part: state.params[part] for part in trained}
        (loss, (metrics, stats)), grads = jax.value_and_grad(objective, has_aux=True)(moving)
        frozen = {p: v for p, v in state.params.items() if p not in trained}
        grads = {**grads, **jax.tree.map(jnp.zeros_like, frozen)}
        updates, opt = optimizer.update(grads, state.opt, state.params)
        rate = learning_rate(stage, state.step - first_step)
        # Momentum from an earlier stage must not move what this one freezes.
        params = {
            part: jax.tree.map(lambda p, u: p - rate * u, value, updates[part])
            if part in trained
            else value
            for part, value in state.params.items()
        }
        count = state.step.astype(jnp.float32)
        decay = jnp.minimum(config.ema_decay or 0.0, (1.0 + count) / (10.0 + count))
        ema = jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), state.ema, params)
        metrics = metrics | {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": rate,
        }
        return TrainState(state.step + 1, params, ema, opt, stats), metrics

    return step
