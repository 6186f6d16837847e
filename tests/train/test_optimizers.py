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
from rcodec_jax.train.step.orthogonal import orthogonal

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


def test_orthogonal_keeps_directions_and_evens_out_sizes() -> None:
    rng = np.random.default_rng(0)
    for shape in ((36, 5), (5, 36), (12, 12), (9, 1)):
        u, _, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
        sizes = np.linspace(1.0, 3.0, min(shape))
        found = orthogonal(jnp.asarray(1e-3 * (u * sizes) @ v, jnp.float32), 4)
        along = u.T @ np.asarray(found) @ v.T
        np.testing.assert_allclose(along, np.diag(np.diag(along)), atol=1e-4)
        assert np.diag(along).min() > 0.6 and np.diag(along).max() < 1.3
    assert not np.any(orthogonal(jnp.zeros((4, 3)), 4))


def test_muon_is_that_of_optax() -> None:
    rng = np.random.default_rng(1)
    params = {"a": jnp.zeros((3, 3, 8, 16)), "b": jnp.zeros((1, 1, 16, 40)), "c": jnp.zeros(64)}
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    dimensions = {"a": matrix, "b": matrix, "c": None}
    config = TrainConfig(optimizer="muon", clip=1e9)
    rules = [
        make_optimizer(config),
        optax.contrib.muon(
            -1.0,
            ns_steps=4,
            consistent_rms=0.2,
            adam_b2=config.b2,
            muon_weight_dimension_numbers=dimensions,
        ),
    ]
    states = [rule.init(params) for rule in rules]
    for _ in range(3):
        grads = {
            name: jnp.asarray(rng.standard_normal(leaf.shape)) for name, leaf in params.items()
        }
        found = [
            rule.update(grads, state, params) for rule, state in zip(rules, states, strict=True)
        ]
        (ours, theirs), states = zip(*found, strict=True)
        for name in params:
            np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5, err_msg=name)
