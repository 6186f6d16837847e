"""Optimisers and the schedule of the learning rate, from optax."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.trees import Flat, flatten, unflatten
from rcodec_jax.train.step.orthogonal import orthogonal
from rcodec_jax.train.step.trainable import moves

DECAY = 0.2
"""Share of a stage at whose end the schedule "decay" comes down."""

_OTHERS = {"lbfgs", "momo", "momo_adam", "sophia", "schedule_free_adamw", "schedule_free_sgd"}
"""What needs more than gradients in a step, or trains other parameters than it evaluates."""

_NEWTON_SCHULZ_STEPS = 4
"""Fewer than the usual five: on CPUs they cost more than the last one brings."""


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """The optimiser behind a bound on the gradient's norm; the step applies the learning rate.

    Adafactor (Shazeer and Stern, ICML 2018) keeps sums over rows and columns instead of a second
    moment for each weight, and no first moment: next to nothing, where Adam keeps two more copies
    of the model. Its updates are not scaled by the parameters' size, so that learning rates mean
    what they mean with Adam, and layers that start from zero start at once.

    Weight decay is decoupled (Loshchilov and Hutter, ICLR 2019) and spares biases, scales of
    normalisations and tables.

    Raises:
      UsageError: no optimiser of that name, or with such options.
    """
    ours = {"adam": _adam, "muon": _muon, "adafactor": _adafactor}
    if config.optimizer not in ours:
        rule = _of_optax(config.optimizer, config.optimizer_options)
    elif config.optimizer_options:
        raise UsageError(
            f"train.optimizer_options: expected none with {config.optimizer!r}, which is set by "
            f"fields of its own, got {', '.join(config.optimizer_options)}"
        )
    else:
        rule = ours[config.optimizer](config)
    parts = [optax.clip_by_global_norm(config.clip), rule]
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=kernels))
    return optax.chain(*parts)


def _of_optax(name: str, options: Iterable[str]) -> optax.GradientTransformation:
    """An optimiser of optax at the learning rate 1, its updates to be subtracted."""
    given: dict[str, float] = {}
    for option in options:
        key, _, value = option.partition("=")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            raise UsageError(
                f"train.optimizer_options: expected name=number such as b1=0.95, got {option!r}"
            ) from None
    known = optimizer_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"some are {', '.join(known[:8])}"
        raise UsageError(f"train.optimizer: no optimiser {name!r} in optax; {hint}")
    make = getattr(optax, name, None) or getattr(optax.contrib, name)
    takes = inspect.signature(make).parameters
    if unknown := [key for key in given if key not in takes]:
        raise UsageError(
            f"train.optimizer_options: expected some of {', '.join(takes)} for {name!r}, got "
            f"{', '.join(unknown)}"
        )
    return optax.chain(make(**{"learning_rate": 1.0} | given), optax.scale(-1.0))


def optimizer_names() -> list[str]:
    """Names in optax of what makes an optimiser from a learning rate and numbers, in order."""
    found = {}
    for module in (optax.contrib, optax):
        for name, make in vars(module).items():
            if not name.startswith(("_", "scale_by_")) and inspect.isfunction(make):
                found[name] = make
    return sorted(n for n, make in found.items() if n not in _OTHERS and _is_optimizer(make))


def _is_optimizer(make: Callable[..., Any]) -> bool:
    takes = inspect.signature(make).parameters
    needed = {
        name
        for name, one in takes.items()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }
    return "learning_rate" in takes and needed <= {"learning_rate"}


def _adafactor(config: TrainConfig) -> optax.GradientTransformation:
    del config
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


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
    2025), so that one learning rate serves both. Momentum is optax's; what makes it orthogonal is
    not, as that took a third of a step on CPUs.
    """

    def dimensions(params: Any) -> Any:
        matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
        return jax.tree.map(lambda leaf: matrix if leaf.ndim == 4 else None, params)

    def finish(update: jax.Array) -> jax.Array:
        if update.ndim != 4:
            return -update
        matrix = update.reshape(-1, update.shape[-1])
        size = 0.2 * math.sqrt(max(matrix.shape))
        return (-size * orthogonal(matrix, _NEWTON_SCHULZ_STEPS)).reshape(update.shape)

    momentum = optax.contrib.muon(
        1.0,
        ns_steps=0,
        adam_learning_rate=1.0,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=dimensions,
    )
    return optax.chain(momentum, optax.stateless(lambda grads, _: jax.tree.map(finish, grads)))


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
    """Linear warm-up, then the stage's schedule; of whole steps or fractions."""
    warmup = min(stage.warmup, max(stage.steps - 1, 1))
    peak, end, left = stage.learning_rate, stage.final_learning_rate, max(stage.steps, 2) - warmup
    if stage.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, left, alpha=end / peak)
    elif stage.schedule == "linear":
        after = optax.linear_schedule(peak, end, left)
    elif stage.schedule == "decay":
        decay = max(1, round(DECAY * stage.steps))
        after = optax.linear_schedule(peak, end, decay, transition_begin=max(0, left - decay))
    else:
        after = optax.constant_schedule(peak)
    parts = [optax.linear_schedule(0.0, peak, warmup), after]
    return jnp.asarray(optax.join_schedules(parts, [warmup])(step_in_stage + 1))
