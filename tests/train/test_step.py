"""The step apart from any run: micro-batches, what moves, optimisers, weights, the guard."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcodec_jax import scale
from rcodec_jax.config.train import MeshConfig, StageConfig, TrainConfig
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.model.trees import flatten
from rcodec_jax.train.step import guard as guard_module
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.accumulation import Gradient
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.forward import Noise
from rcodec_jax.train.step.guard import FiniteGuard
from rcodec_jax.train.step.losses import min_snr_weight
from rcodec_jax.train.step.optimizer import kernels, make_optimizer
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.statistics import Stats
from rcodec_jax.train.step.trainable import ever_moving, moving_paths

ROWS = 4
PATHS = ("encoder/conv/kernel", "decoder/conv/kernel", "unet/down/kernel", "unet/down/bias")


def latent_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "latent": rng.normal(0, 2, (ROWS, 8, 8, 3)).astype(np.float16),
        "level_map": rng.integers(0, 16, (ROWS, 8, 8)).astype(np.uint8),
        "nodes": np.sort(rng.integers(128, 768, (ROWS, 16)), axis=1).astype(np.int32),
    }


@pytest.fixture(scope="module")
def config(tools):
    """Stage "codec" on cached latents, the cheapest to compile."""
    config = tools.config("codec")
    stage = dataclasses.replace(config.train.stages[0], latents=True)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, stages=(stage,)))


def test_micro_batches_give_the_gradient_of_the_whole(config) -> None:
    """Same loss, gradient, metrics and statistics, noise included; and the same bits every time."""
    setup = Setup.of(config)
    state, batch = setup.initial_state(), latent_batch()
    (stage,) = config.train.stages
    found = []
    for parts, times in ((1, 1), (2, 2)):
        of = jax.jit(setup.gradient(dataclasses.replace(stage, accumulate=parts)))
        found += [of(state, batch) for _ in range(times)]
    whole, parts, again = (jax.tree.map(np.asarray, gradient) for gradient in found)
    jax.tree.map(np.testing.assert_array_equal, parts, again)
    assert parts.by_path.keys() == whole.by_path.keys()
    for path, value in whole.by_path.items():
        largest = np.abs(value).max() + 1e-12
        np.testing.assert_allclose(parts.by_path[path] / largest, value / largest, atol=2e-5)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, value in whole.metrics.items():
        assert parts.metrics[name] == pytest.approx(value, rel=1e-5)
    for name, value in whole.observed.ranges.items():
        assert parts.observed.ranges[name] == pytest.approx(value, rel=1e-6)
    assert not any(path.startswith(("encoder", "decoder")) for path in whole.by_path)


def test_a_batch_that_does_not_divide_is_refused(config) -> None:
    """Rows of micro-batches must divide over the devices; over micro-batches the recipe sees to."""
    stage = dataclasses.replace(config.train.stages[0], accumulate=4)
    train = dataclasses.replace(config.train, mesh=MeshConfig(data=2))
    with pytest.raises(UsageError, match="multiple of 8 .*accumulate 4.*got 4"):
        Setup.of(dataclasses.replace(config, train=train)).step(stage, 0)


def test_noise_of_a_row_does_not_depend_on_other_rows() -> None:
    key = jax.random.key(3)
    many, few = (Noise.draw(key, (rows, 8, 8, 3), 5) for rows in (8, 4))
    assert many.z.shape == (8, 2, 2, 5)
    np.testing.assert_array_equal(np.asarray(many.y[:4]), np.asarray(few.y))
    np.testing.assert_array_equal(np.asarray(many.z[:4]), np.asarray(few.z))
    assert float(jnp.abs(many.y).max()) <= 0.5
    assert float(jnp.var(many.y)) == pytest.approx(1 / 12, rel=0.05)


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    raw = jnp.asarray(np.random.default_rng(0).normal(1, 2, (6, 4, 4, 3)), jnp.float32)
    raw = raw + jnp.arange(6.0).reshape(6, 1, 1, 1)  # parts differ in mean
    ranges = [{"a": jnp.asarray(x)} for x in (1.0, 3.0, 2.0)]
    # as micro-batches take them
    parts = [statistics.observe(raw[i::3], found) for i, found in enumerate(ranges)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *parts)
    pooled, whole = statistics.pooled(stacked), statistics.observe(raw, None)
    np.testing.assert_allclose(np.asarray(pooled.shift), np.asarray(whole.shift), rtol=1e-5)
    assert float(pooled.power) == pytest.approx(float(whole.power), rel=1e-5)
    assert float(pooled.ranges["a"]) == 3.0


def test_a_stage_may_keep_the_scale_of_its_weights() -> None:
    """As Stable Diffusion's denoiser needs it; ranges of the entropy model follow all the same."""
    stats = Stats(jnp.zeros(3), jnp.asarray(30.0), {"conv_0_out": jnp.zeros(())})
    ranges = {"conv_0_out": jnp.asarray(2.0)}
    observed = statistics.Observed(jnp.ones(3), jnp.asarray(20.0), ranges)
    kept = statistics.update(stats, observed, jnp.asarray(7), rescale=False)
    followed = statistics.update(stats, observed, jnp.asarray(7))
    np.testing.assert_array_equal(kept.shift, stats.shift)
    assert kept.power == stats.power > followed.power > 20.0
    assert kept.ranges == followed.ranges == {"conv_0_out": 2.0}


def test_what_a_stage_moves() -> None:
    codec = StageConfig(kind="codec", freeze=("^unet/.*bias$",))
    assert moving_paths(codec, PATHS) == {"unet/down/kernel"}
    assert moving_paths(StageConfig(kind="joint"), PATHS) == set(PATHS)
    with pytest.raises(UsageError, match="freeze 'vae': expected a parameter's path that fits"):
        moving_paths(StageConfig(freeze=("vae",)), PATHS)
    with pytest.raises(UsageError, match="no regular expression|not a regular expression"):
        moving_paths(StageConfig(freeze=("(",)), PATHS)
    with pytest.raises(UsageError, match="trains nothing"):
        moving_paths(StageConfig(kind="codec", freeze=("unet",)), PATHS)
    params = {"unet": {"a": 1, "b": 2}, "encoder": {"a": 3}, "hyper_prior": {"mean": 4}}
    stages = (
        StageConfig(kind="codec", freeze=("unet/a",)),
        StageConfig(kind="codec", freeze=("unet",)),
    )
    assert ever_moving(stages, params) == {"unet": {"b": 2}, "hyper_prior": {"mean": 4}}


def test_what_is_never_moved_has_no_optimiser_state(config) -> None:
    setup = Setup.of(config)
    moments = setup.shapes.opt[1].mu
    assert set(moments) == {"unet", "hyper_analysis", "hyper_synthesis", "hyper_prior"}
    assert set(setup.shapes.params) == set(setup.shapes.ema) == {*moments, "encoder", "decoder"}


def test_adafactor_keeps_next_to_nothing_and_shards(config) -> None:
    params = {"unet": {"kernel": jnp.zeros((3, 3, 256, 128)), "bias": jnp.zeros(128)}}
    optimizer = make_optimizer(TrainConfig(optimizer="adafactor"))
    state = optimizer.init(params)
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert held < 0.02 * params["unet"]["kernel"].size
    # An update is about as large as one of Adam, so that learning rates mean the same.
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    updates, _ = optimizer.update(grads, state, params)
    size = float(jnp.sqrt(jnp.mean(jnp.square(updates["unet"]["kernel"]))))
    assert size == pytest.approx(1.0, rel=0.05)
    train = dataclasses.replace(
        config.train,
        optimizer="adafactor",
        mesh=dataclasses.replace(config.train.mesh, data=2, fsdp=4),
    )
    setup = Setup.of(dataclasses.replace(config, train=train))
    state = setup.initial_state()  # made where its shardings say
    assert all(leaf.sharding.mesh.shape["fsdp"] == 4 for leaf in jax.tree.leaves(state.opt))


def test_adam_is_that_of_optax_for_what_every_stage_moves() -> None:
    rng = np.random.default_rng(0)
    config = TrainConfig((StageConfig(steps=30), StageConfig(steps=9)), clip=1e9)
    ours, theirs = make_optimizer(config), optax.scale_by_adam(b1=0.9, b2=config.b2)
    params = {"unet": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}}
    ours_state, theirs_state = ours.init(params), theirs.init(params)
    assert jax.tree.structure(ours_state[1]) == jax.tree.structure(theirs_state)
    for _ in range(5):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
        updates, ours_state = ours.update(grads, ours_state, params)
        expected, theirs_state = theirs.update(grads, theirs_state)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        jax.tree.map(np.testing.assert_array_equal, ours_state[1], theirs_state)


def test_adam_of_what_was_frozen_goes_by_the_steps_that_moved_it() -> None:
    """As if the stages that freeze it were not there, with the moments from before them."""
    kinds = ("autoencoder", "codec", "joint")
    config = TrainConfig(tuple(StageConfig(kind=kind, steps=120) for kind in kinds), clip=1e9)
    optimizer = make_optimizer(config)
    update = jax.jit(optimizer.update)
    alone = optax.scale_by_adam(b1=0.9, b2=config.b2)
    alone_update = jax.jit(alone.update)
    params = {"encoder": {"bias": jnp.zeros(3)}, "unet": {"bias": jnp.zeros(3)}}
    moved_by = {"encoder": ("autoencoder", "joint"), "unet": ("codec", "joint")}
    state = optimizer.init(params)
    states = {part: alone.init(params[part]) for part in params}
    rng = np.random.default_rng(0)
    for kind in kinds:
        for step in range(120):
            grad = jnp.asarray(rng.normal(1.0, 0.1, 3), jnp.float32)
            moving = {part: kind in moved_by[part] for part in params}
            grads = {part: {"bias": grad * moving[part]} for part in params}
            updates, state = update(grads, state, params)
            for part in [part for part in params if moving[part]]:
                expected, states[part] = alone_update(grads[part], states[part])
                np.testing.assert_allclose(updates[part]["bias"], expected["bias"], rtol=1e-5)
                if step == 0:  # nominal from the first step on
                    np.testing.assert_allclose(updates[part]["bias"], 1.0, atol=0.2)


def test_weight_decay_is_decoupled_and_for_kernels_only() -> None:
    params = {"unet": {"conv": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}}}
    assert kernels(params) == {"unet": {"conv": {"kernel": True, "bias": False}}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for name in ("adam", "adafactor"):
        optimizer = make_optimizer(TrainConfig(optimizer=name, weight_decay=0.1))  # type: ignore[arg-type]
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        conv = updates["unet"]["conv"]
        np.testing.assert_allclose(np.asarray(conv["kernel"]), 0.3, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(conv["bias"]), 0.0)


def test_min_snr_bounds_the_weight_of_x0() -> None:
    """As in Hang et al.: on the error of x0 the weight is the SNR, but at most gamma."""
    snr = jnp.asarray([0.01, 1.0, 4.9, 50.0, 1000.0])
    of_x0 = min_snr_weight(snr, 5.0) * (snr + 1.0)  # the error of v is that of x0 times snr + 1
    np.testing.assert_allclose(np.asarray(of_x0), [0.01, 1.0, 4.9, 5.0, 5.0], rtol=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(config) -> None:
    """Nor do steps after it; what is found then is the batch that did it. The state is donated."""
    setup = Setup.of(config)
    (stage,) = config.train.stages
    good = latent_batch()
    bad = good | {"latent": good["latent"].copy()}
    bad["latent"][2, 3, 4, 1] = np.inf
    start = setup.initial_state()
    before = jax.tree.map(np.asarray, start)
    step, _ = setup.compiled_step(stage, 0, None, scale.global_batch(good, setup.mesh))
    donated = step.memory_analysis().alias_size_in_bytes
    assert donated == sum(leaf.nbytes for leaf in jax.tree.leaves(start))
    guard = FiniteGuard(setup.gradient(stage))
    state = start
    for number, batch in enumerate((good, bad, good), start=1):
        batch = scale.global_batch(batch, setup.mesh)
        state, metrics = step(state, batch)
        guard.note(number, metrics["finite"], batch)
        if number == 1:
            first = jax.tree.map(np.asarray, state)
    assert int(first.step) == 1 and int(state.step) == ~1
    kept, first = dataclasses.replace(state, step=0), dataclasses.replace(first, step=0)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), b), kept, first)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, first)), strict=True))
    guard.check(state, behind=2)  # the first was fine
    with pytest.raises(RcodecError, match="step 2 is not finite: first in the batch's latent"):
        guard.check(state, behind=1)


@pytest.mark.parametrize(
    "change, named",
    [
        ({}, "the gradient of unet/b"),
        ({"metrics": {"bpp": jnp.asarray(np.nan)}}, "the loss's term bpp"),
    ],
)
def test_the_guard_names_the_first_bad_tensor(change, named, monkeypatch) -> None:
    met = []
    monkeypatch.setattr(guard_module, "wait_for_all", met.append)
    stats = Stats(jnp.zeros(1), jnp.ones(()), {})
    state = TrainState(jnp.asarray(~6), {"unet": {"a": jnp.ones(2)}}, None, (), stats)
    by_path = {"unet/a": jnp.ones(2), "unet/b": jnp.asarray([1.0, jnp.nan])}
    clean = Gradient(jnp.ones(()), by_path, {"bpp": jnp.ones(())}, statistics.observe(None, {}))

    def gradient(state, batch):
        del batch
        # at the step that was bad, not at the mark
        return clean._replace(**change)._replace(loss=1.0 / (state.step == 6))

    guard = FiniteGuard(gradient)
    guard.note(7, jnp.asarray(False), {"image": jnp.zeros(1, jnp.uint8)})
    with pytest.raises(RcodecError, match=f"step 7 is not finite: first in {named}"):
        guard.check(state)
    assert len(met) == 1  # of all processes, which may have compiled at different speeds


def test_flat_paths_are_those_of_the_tree(config) -> None:
    shapes = Setup.of(config).shapes
    assert "unet/conv_in/conv/kernel" in flatten(shapes.params)
