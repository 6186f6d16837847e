"""Stopping at the first step that is not finite, and saying where it went wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rcodec_jax.checkpoint import wait_for_all
from rcodec_jax.errors import RcodecError
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.train.step.accumulation import Gradient
from rcodec_jax.train.step.losses import Batch
from rcodec_jax.train.step.state import TrainState

Redraw = Callable[[int], Batch]
"""Number of a step, from 1 -> its batch."""


class FiniteGuard:
    """Looks at each step's flag when the next step is already under way, so that nothing waits.

    A step that is not finite leaves the state as it was (see `make_step`), and so do the steps
    after it: when the guard fires, the state is the last good one, and with the batch that is
    kept the bad step is computed again to find the first bad tensor.

    Args:
      gradient: of the stage, as `make_gradient` gives it.
    """

    def __init__(self, gradient: Callable[[TrainState, Batch], Gradient]) -> None:
        self._gradient = gradient
        self._noted: list[tuple[int, jax.Array, Batch | Redraw]] = []

    def note(self, step: int, finite: jax.Array, batch: Batch | Redraw) -> None:
        """Keeps the flag and the batch of step number `step` until they have been looked at.

        Where a program makes several steps, `step` is the last of them, and `batch` the function
        that gives the batch of any of them.
        """
        self._noted.append((step, finite, batch))

    def check(self, state: TrainState, *, behind: int = 0) -> None:
        """Looks at all steps but the last `behind`; waits for these.

        Raises:
          RcodecError: one of them was not finite; names it and the first bad tensor.
        """
        while len(self._noted) > behind:
            step, finite, batch = self._noted.pop(0)
            if not bool(finite):
                if callable(batch):
                    step = int(jnp.maximum(state.step, ~state.step)) + 1
                    batch = batch(step)
                bad = first_not_finite(self._gradient, state, batch)
                raise RcodecError(
                    f"step {step} is not finite: first in {bad}; the last checkpoint before it "
                    "is as it was"
                )


_KINDS = (
    "the batch's",
    "parameter",
    "statistic",
    "the loss's term",
    "the loss",
    "the gradient of",
)


def first_not_finite(
    gradient: Callable[[TrainState, Batch], Gradient], state: TrainState, batch: Batch
) -> str:
    """Name of the first tensor that is not finite in a step from `state`.

    Looked at in this order: the batch, parameters, statistics, terms of the loss, gradients.
    """

    def finite(state: TrainState, batch: Batch) -> list[Any]:
        state = dataclasses.replace(state, step=jnp.maximum(state.step, ~state.step))
        found = gradient(state, batch)
        tensors = [batch, state.params, state.stats, found.metrics, found.loss, found.by_path]
        return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), tensors)

    platform = next(iter(state.step.devices())).platform
    options = compiler_options(platform)  # the kernels of the step that failed
    compiled = jax.jit(finite).lower(state, batch).compile(compiler_options=options)
    wait_for_all("compiled the search for what is not finite")
    flags = jax.device_get(compiled(state, batch))
    for kind, tree in zip(_KINDS, flags, strict=True):
        for path, flag in jax.tree_util.tree_leaves_with_path(tree):
            if not flag:
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                return f"{kind} {name}".strip()
    return "the gradient's norm, which overflows"
