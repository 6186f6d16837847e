"""The gradient of a batch, whole or in micro-batches one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rcodec_jax.model.trees import Flat
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.losses import Batch, Metrics, Seen
from rcodec_jax.train.step.statistics import Observed

Objective = Callable[[Flat, Batch], tuple[jax.Array, Seen]]


class Gradient(NamedTuple):
    """A batch's loss, its gradient by path, metrics, and what the statistics need."""

    loss: jax.Array
    by_path: Flat
    metrics: Metrics
    observed: Observed


def gradient(objective: Objective, moving: Flat, batch: Batch, parts: int) -> Gradient:
    """The gradient of a mean over the rows of a batch.

    Args:
      objective: (parameters, batch) -> (loss, what was seen), means over rows.
      moving: parameters to differentiate by.
      batch: arrays [B, ...], B a multiple of `parts`.
      parts: micro-batches; part k has the rows k, k + parts, ..., so that each device divides the
        rows it has. They follow one another in a fixed order: the sum is the same every time.

    Returns:
      The same as for the whole batch, but for rounding; except in stage "joint", where the
      gradient through the latent's scale (`statistics.scale_in_training`) is that of each part.
    """
    differentiate = jax.value_and_grad(objective, has_aux=True)
    if parts == 1:
        (loss, seen), grads = differentiate(moving, batch)
        return Gradient(loss, grads, seen.metrics, seen.observed)

    def divided(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)  # [parts, B / parts, ...]

    def add_part(total: Flat, part: Batch) -> tuple[Flat, Any]:
        (loss, seen), grads = differentiate(moving, part)
        return jax.tree.map(jnp.add, total, grads), (loss, seen.metrics, seen.observed)

    start = jax.tree.map(jnp.zeros_like, moving)
    parts_of = jax.tree.map(divided, batch)
    total, (losses, metrics, observed) = jax.lax.scan(add_part, start, parts_of)
    means: Metrics = jax.tree.map(jnp.mean, metrics)
    grads = jax.tree.map(lambda x: x / parts, total)
    return Gradient(jnp.mean(losses), grads, means, statistics.pooled(observed))
