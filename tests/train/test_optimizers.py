"""Optimisers by name from optax, and schedules of the learning rate by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.train.step.optimizer import learning_rate, make_optimizer, optimizer_names

PARAMS = {"decoder": {"conv": {"kernel": jnp.ones((1, 1, 2, 2)), "bias": jnp.ones(2)}}}
GRADS = jax.tree.map(lambda leaf: 0.01 * jnp.arange(1.0, 1 + leaf.size).reshape(leaf.shape), PARAMS)


def updates_of(rule: optax.GradientTransformation, steps: int = 2) -> list[np.ndarray]:
    state, updates = rule.init(PARAMS), None
    for _ in range(steps):
        updates, state = rule.update(GRADS, state, PARAMS)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(updates)]


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        ("lion", ("b1=0.8",), lambda: optax.lion(1.0, b1=0.8)),
        ("adamw", ("weight_decay=0.5",), lambda: optax.adamw(1.0, weight_decay=0.5)),
        ("sgd", (), lambda: optax.sgd(1.0)),
        ("ademamix", (), lambda: optax.contrib.ademamix(1.0)),
    ],
)
def test_any_optimiser_of_optax_by_its_name(name, options, same) -> None:
    """Its updates are subtracted times the step's learning rate, so they have the other sign."""
    config = TrainConfig(optimizer=name, optimizer_options=options, clip=1e9)
    for ours, theirs in zip(updates_of(make_optimizer(config)), updates_of(same()), strict=True):
        np.testing.assert_allclose(ours, -theirs, rtol=1e-5)


def test_names_and_options_that_do_not_exist() -> None:
    assert {"adan", "lamb", "prodigy", "rmsprop", "signum"} <= set(optimizer_names())
    assert not {"lbfgs", "sophia", "scale_by_madgrad"} & set(optimizer_names())
    for fields, text in (
        ({"optimizer": "lionn"}, "no optimiser 'lionn' in optax; did you mean lion"),
        ({"optimizer": "chain"}, "no optimiser 'chain' in optax; "),
        ({"optimizer": "lion", "optimizer_options": ("b7=1",)}, "expected some of learning_rate"),
        ({"optimizer": "lion", "optimizer_options": ("b1",)}, "expected name=number .*got 'b1'"),
        ({"optimizer_options": ("b1=1",)}, "expected none with 'adam'"),
    ):
        with pytest.raises(UsageError, match=text):
            make_optimizer(TrainConfig(**fields))


def test_schedules_by_name() -> None:
    def rates(**fields) -> np.ndarray:
        stage = StageConfig(
            steps=100, learning_rate=1e-2, final_learning_rate=1e-4, warmup=10, **fields
        )
        return np.asarray(learning_rate(stage, jnp.arange(100)))

    found = {name: rates(schedule=name) for name in ("cosine", "linear", "decay", "constant")}
    np.testing.assert_array_equal(rates(), found["cosine"])
    for name, values in found.items():
        np.testing.assert_allclose(values[:10], 1e-3 * np.arange(1, 11), rtol=1e-5)
        end = 1e-2 if name == "constant" else 1e-4
        assert values[99] == pytest.approx(end, rel=1e-4)
        assert (np.diff(values[9:]) <= 1e-9).all()
    assert found["cosine"][54] == pytest.approx((1e-2 + 1e-4) / 2, rel=1e-3)
    assert found["linear"][54] == pytest.approx((1e-2 + 1e-4) / 2, rel=1e-3)
    np.testing.assert_allclose(found["decay"][10:79], 1e-2, rtol=1e-6)
    assert found["decay"][89] == pytest.approx((1e-2 + 1e-4) / 2, rel=1e-3)
