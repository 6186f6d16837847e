"""One training step of a stage, as a function of state and batch that is to be jitted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.trees import Flat, flatten, unflatten
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.accumulation import Gradient, gradient
from rcodec_jax.train.step.losses import (
    Batch,
    Metrics,
    Perceptual,
    autoencoder_loss,
    codec_loss,
    draw_noise,
)
from rcodec_jax.train.step.optimizer import learning_rate
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.trainable import ever_moving, moving_paths

Step = Callable[..., tuple[TrainState, Metrics]]


def make_gradient(
    networks: Networks,
    config: TrainConfig,
    stage: StageConfig,
    perceptual: Perceptual | None,
    gather: Callable[[Flat], Flat] = lambda flat: flat,
) -> Callable[[TrainState, Batch], Gradient]:
    """What a step moves along, before clipping: (state, batch) -> gradient, by path.

    `gather` makes parameters whole that are split over devices, before the networks see them.
    """
    if stage.kind == "autoencoder":
        loss_of: Any = autoencoder_loss
    else:
        loss_of = functools.partial(codec_loss, joint=stage.kind == "joint", refine=stage.refine)

    def of(state: TrainState, batch: Batch) -> Gradient:
        key = jax.random.fold_in(jax.random.key(config.seed + 1), state.step)
        batch = batch | draw_noise(stage, key, batch["level_map"], networks.config)
        flat = flatten(state.params)
        paths = moving_paths(stage, flat)

        def objective(moving: Flat, part: Batch) -> Any:
            params = unflatten(gather(flat | moving))
            return loss_of(networks, params, state.stats, part, stage.loss, perceptual)

        moving = {path: leaf for path, leaf in flat.items() if path in paths}
        return gradient(objective, moving, batch, stage.accumulate)

    return of


def make_step(
    networks: Networks,
    optimizer: optax.GradientTransformation,
    config: TrainConfig,
    stage: StageConfig,
    first_step: int,
    perceptual: Perceptual | None = None,
    gather: Callable[[Flat], Flat] = lambda flat: flat,
) -> Step:
    """The step of one stage, not yet jitted.

    Args:
      networks: the model.
      optimizer: as `make_optimizer` gives it.
      config: the run.
      stage: the stage.
      first_step: steps of the run before this stage.
      perceptual: distance for `stage.loss.lpips`.
      gather: as in `make_gradient`.

    Returns:
      (state, batch, position=None) -> (state, metrics); all metrics are scalars. The learning rate
      is that of `position` (float32 [], steps of the stage's schedule that have gone by) instead of
      the state's step where it is given. Where loss or gradient is not
      finite, the metric "finite" is False and the state stays as it was, but for `step`, which
      becomes negative (~step); a state with a negative step stays as it is.
    """
    gradient_of = make_gradient(networks, config, stage, perceptual, gather)

    def step(
        state: TrainState, batch: Batch, position: jax.Array | None = None
    ) -> tuple[TrainState, Metrics]:
        loss, moved, metrics, observed = gradient_of(state, batch)
        flat = flatten(state.params)
        optimised = ever_moving(config.stages, state.params)
        # The optimiser knows of what other stages move too: its gradient is 0 in this one.
        grads = unflatten(
            {
                path: moved[path] if path in moved else jnp.zeros_like(leaf)
                for path, leaf in flatten(optimised).items()
            }
        )
        updates, opt = optimizer.update(grads, state.opt, optimised)
        rate = learning_rate(stage, state.step - first_step if position is None else position)
        # Momentum from an earlier stage must not move what this one freezes.
        by_path = flatten(updates)
        params = unflatten(
            {
                path: leaf - rate * by_path[path] if path in moved else leaf
                for path, leaf in flat.items()
            }
        )
        ema = state.ema
        if config.ema_decay is not None:
            count = state.step.astype(jnp.float32)
            decay = jnp.minimum(config.ema_decay, (1.0 + count) / (10.0 + count))
            ema = jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), ema, params)
        norm = optax.tree.norm(grads)
        metrics = metrics | {"loss": loss, "grad_norm": norm, "learning_rate": rate}
        warm = config.init_from is not None
        stats = statistics.update(
            state.stats, observed, state.step, rescale=stage.rescale, warm=warm
        )
        after = TrainState(state.step + 1, params, ema, opt, stats)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        return _advanced(state, after, finite), metrics | {"finite": finite}

    return step


def _advanced(before: TrainState, after: TrainState, finite: jax.Array) -> TrainState:
    """The state after a step, or the one before it with its step marked; see `make_step`."""
    good = finite & (before.step >= 0)
    kept: TrainState = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    mark = jnp.minimum(before.step, ~before.step)
    return dataclasses.replace(kept, step=jnp.where(good, after.step, mark))
