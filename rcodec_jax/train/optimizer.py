"""Optimisers and the schedule of the learning rate, from optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from rcodec_jax.codec.trees import Flat, flatten, unflatten
from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.train.moving import moves

_NEWTON_SCHULZ_STEPS = 4
"""Fewer than the usual five: on CPUs they cost more than the last one brings."""


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam or Adafactor behind a bound on the gradient's norm; the step applies the learning rate.

    Adafactor (Shazeer and Stern, ICML 2018) keeps sums over rows and columns instead of a second
    moment for each weight, and no first moment: next to nothing, where Adam keeps two more copies
    of the model. Its updates are not scaled by the parameters' size, so that learning rates mean
    what they mean with Adam, and layers that start from zero start at once.

    Weight decay is decoupled (Loshchilov and Hutter, ICLR 2019) and spares biases, scales of
    normalisations and tables.
    """
    if config.optimizer == "adafactor":
        rule = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    elif config.optimizer == "muon":
        rule = _muon(config)
    else:
        rule = _adam(config)
    parts = [optax.clip_by_global_norm(config.clip), rule]
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=kernels))
    return optax.chain(*parts)


def _adam(config: TrainConfig) -> optax.GradientTransformation:
    """Adam that takes each parameter's steps to be those of the stages that move it.

    optax corrects the moments of all parameters by one count. Where a stage has left some alone,
    their moments are far from what the count says: after 3000 steps at 0, the first updates of
    those that begin to move would be several times too large. Here stages that do not move a
    parameter leave its moments alone too, and its correction goes by the steps that moved it. The
    state is that of optax, as are the updates of what every stage moves.
    """
    rule = optax.scale_by_adam(b1=0.9, b2=config.b2)

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> Any:
        del params
        trees = [flatten(tree) for tree in (grads, state.mu, state.nu)]
        groups: dict[tuple[bool, ...], list[str]] = {}
        for path in trees[0]:
            groups.setdefault(tuple(moves(stage, path) for stage in config.stages), []).append(path)
        updates: Flat = {}
        mu: Flat = {}
        nu: Flat = {}
        for when, paths in groups.items():
            grad, *old = ({path: tree[path] for path in paths} for tree in trees)
            done = state.count if all(when) else _steps_moved(config, when, state.count)
            found, after = rule.update(grad, optax.ScaleByAdamState(done, *old))
            new = [after.mu, after.nu]
            if not all(when):
                moving = _steps_moved(config, when, state.count + 1) > done
                new = jax.tree.map(lambda a, b, moving=moving: jnp.where(moving, a, b), new, old)
            updates |= found
            mu |= new[0]
            nu |= new[1]
        count = optax.safe_increment(state.count)
        after = optax.ScaleByAdamState(count, unflatten(mu), unflatten(nu))
        return unflatten(updates), after

    return optax.GradientTransformation(rule.init, update)


def _muon(config: TrainConfig) -> optax.GradientTransformation:
    """Muon for convolutions, as matrices from their inputs to their outputs; Adam for the rest.

    Its steps are as large as Adam's (root mean square .2 times the learning rate; Liu et al.
    2025), so that one learning rate serves both.
    """

    def dimensions(params: Any) -> Any:
        matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
        return jax.tree.map(lambda leaf: matrix if leaf.ndim == 4 else None, params)

    rule = optax.contrib.muon(
        1.0,
        ns_steps=_NEWTON_SCHULZ_STEPS,
        adam_learning_rate=1.0,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=dimensions,
        consistent_rms=0.2,
    )
    return optax.chain(rule, optax.scale(-1.0))


def _steps_moved(config: TrainConfig, when: tuple[bool, ...], step: jax.Array) -> jax.Array:
    """How many of the run's first `step` steps are of the stages for which `when` is True."""
    moved = jnp.zeros_like(step)
    for stage, first, moving in zip(config.stages, config.first_steps, when, strict=True):
        if moving:
            moved += jnp.clip(step - first, 0, stage.steps)
    return moved


def kernels(params: dict[str, Any]) -> dict[str, Any]:
    """Whether each parameter is the kernel of a convolution or of a dense layer."""
    return unflatten(
        {path: path.endswith("/kernel") and leaf.ndim > 1 for path, leaf in flatten(params).items()}
    )


def learning_rate(stage: StageConfig, step_in_stage: jax.Array) -> jax.Array:
    """Linear warm-up, then a cosine down to the stage's final rate; of whole steps or fractions."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=stage.learning_rate,
        warmup_steps=min(stage.warmup, max(stage.steps - 1, 1)),
        decay_steps=max(stage.steps, 2),
        end_value=stage.final_learning_rate,
    )
    return jnp.asarray(schedule(step_in_stage + 1))
