"""Optimisers and the schedule of the learning rate, from optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcodec_jax.codec.trees import flatten, unflatten
from rcodec_jax.config.train import StageConfig, TrainConfig


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
    else:
        rule = optax.scale_by_adam(b1=0.9, b2=config.b2)
    parts = [optax.clip_by_global_norm(config.clip), rule]
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=kernels))
    return optax.chain(*parts)


def kernels(params: dict[str, Any]) -> dict[str, Any]:
    """Whether each parameter is the kernel of a convolution or of a dense layer."""
    return unflatten(
        {path: path.endswith("/kernel") and leaf.ndim > 1 for path, leaf in flatten(params).items()}
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
