"""Models that grow: what they could do before they still can, bit for bit or nearly."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.errors import UsageError
from rcodec_jax.model.networks import LevelInputs, Networks, parameter_shapes, tracked_ranges
from rcodec_jax.model.trees import flatten, unflatten
from rcodec_jax.model.weights_writer import WeightsWriter
from rcodec_jax.train.loop.growing import (
    grow,
    grow_shift,
    obstacles,
    parts_with_new_layers,
)
from rcodec_jax.train.loop.initial import starting_state
from rcodec_jax.train.step.build import Setup

POWER = 3.0


@pytest.fixture(scope="module")
def small(tools):
    """A model and its parameters, all of them random."""
    config = tools.config("joint").model
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config)
    return config, {name: 0.2 * rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def large(small):
    """The same with two channels more and both refinements of the entropy model."""
    config, params = small
    hyper = dataclasses.replace(config.hyper, neighbours=True, context=4)
    new = dataclasses.replace(config, latent_channels=5, hyper=hyper)
    context = flatten(Networks(new).init(jax.random.key(0), ("hyper_context",)))
    return new, grow(params, config, new, power=POWER, initial=context)


def _levels() -> LevelInputs:
    level_map = np.arange(64).reshape(1, 8, 8) % 2
    return LevelInputs.of(jnp.asarray(level_map), jnp.full((1, 16), 300).at[:, 1].set(500))


def _padded(y: np.ndarray) -> np.ndarray:
    return np.pad(y, ((0, 0),) * 3 + ((0, 2),))


@pytest.fixture
def both(small, large):
    """(networks, params) of either."""
    pairs = ((small[0], small[1]), (large[0], large[1]))
    return [(Networks(config), unflatten(params)) for config, params in pairs]


def _close(new, old) -> None:
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


def test_the_old_channels_make_the_same_picture(both) -> None:
    (old, before), (new, after) = both
    rng = np.random.default_rng(1)
    y = rng.standard_normal((1, 8, 8, 3)).astype(np.float32)
    _close(new.decode(after, _padded(y)), old.decode(before, y))
    image = rng.uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    for found, expected in zip(new.encode(after, image), old.encode(before, image), strict=True):
        _close(found[..., :3], expected)


def test_the_old_channels_cost_the_same(both) -> None:
    (old, before), (new, after) = both
    rng, levels = np.random.default_rng(2), _levels()
    y = rng.standard_normal((1, 8, 8, 3)).astype(np.float32)
    z = old.hyper_encode(before, y, levels)
    _close(new.hyper_encode(after, rng.permuted(_padded(y), axis=0), levels), z)
    z = jnp.round(10 * z)
    mean, log2_sigma, _ = old.hyper_decode(before, z, levels)
    wide = new.hyper_decode(after, z, levels)
    _close(wide[0][..., :3], mean)
    _close(wide[1][..., :3], log2_sigma)
    _close(new.hyper_bits(after, z, levels, z), old.hyper_bits(before, z, levels, z))
    prior = jnp.concatenate(wide[:2], axis=-1)
    for change in new.hyper_refine(after, prior, _padded(y), levels)[:2]:
        assert not np.any(change)
    times, narrow = jnp.full((1, 16), 0.4), jnp.concatenate([mean, log2_sigma], axis=-1)
    _close(
        new.denoise(after, _padded(y), times, levels.level_map, prior)[..., :3],
        old.denoise(before, y, times, levels.level_map, narrow),
    )


def test_a_deeper_autoencoder_does_the_same_and_can_learn(small) -> None:
    """What new blocks add is zero, and its slope is not."""
    config, params = small
    deeper = dataclasses.replace(config.autoencoder, layers=config.autoencoder.layers + 1)
    new = dataclasses.replace(config, autoencoder=deeper)
    networks = Networks(new)
    added = parts_with_new_layers(config, new)
    assert added == ("encoder", "decoder")
    initial = flatten(networks.init(jax.random.key(0), added))
    grown = unflatten(grow(params, config, new, power=POWER, initial=initial))
    rng, before = np.random.default_rng(4), unflatten(params)
    image = rng.uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    y, _ = Networks(config).encode(before, image)
    _close(networks.encode(grown, image)[0], y)
    _close(networks.decode(grown, y), Networks(config).decode(before, y))

    def error(params):
        return jnp.square(networks.decode(params, networks.encode(params, image)[0])).mean()

    slopes = flatten(jax.grad(error)(grown))
    new_last = [
        name for name in slopes if name not in params and name.endswith("conv2/conv/kernel")
    ]
    assert len(new_last) == 2 * len(deeper.channels)
    assert all(np.any(slopes[name]) for name in new_last)


def test_hints_change_nothing_at_first_and_can_learn(small) -> None:
    config, params = small
    new = dataclasses.replace(config, decoder_features=2, decoder_noise=True)
    networks = Networks(new)
    added = parts_with_new_layers(config, new)
    assert added == ("decoder", "unet")
    initial = flatten(networks.init(jax.random.key(0), added))
    grown = unflatten(grow(params, config, new, power=POWER, initial=initial))
    rng = np.random.default_rng(4)
    y, prior = (rng.standard_normal((1, 8, 8, n)).astype(np.float32) for n in (3, 6))
    dither = rng.uniform(-0.5, 0.5, y.shape).astype(np.float32)
    given = y, jnp.full((1, 16), 0.4), _levels().level_map, prior
    old, before = Networks(config), unflatten(params)

    def decode(params):
        output, features = jnp.split(networks.denoise(params, *given), [3], axis=-1)
        return networks.decode(params, output, networks.hints(features, dither))

    clean = old.denoise(before, *given)
    _close(decode(grown), old.decode(before, clean))
    slope = jax.grad(lambda params: jnp.square(decode(params) - 1).mean())(grown)
    kernel = slope["decoder"]["hints_in"]["conv"]["kernel"]
    assert kernel.shape[2] == 2 + 3 and np.abs(kernel).max(axis=(0, 1, 3)).min() > 0
    changes = ({"decoder_features": 3}, {"decoder_noise": False}, {"latent_channels": 5})
    for change in changes:
        with pytest.raises(UsageError, match="cannot grow"):
            grow(flatten(grown), new, dataclasses.replace(new, **change), power=POWER)


def test_new_channels_are_those_of_the_block_transform(tools) -> None:
    """Grown from its own start, the linear path is that of a larger model, but for one scale."""
    config = tools.config("joint").model
    new = dataclasses.replace(config, latent_channels=5)
    first = flatten(Networks(config).init(jax.random.key(0)))
    fresh = flatten(Networks(new).init(jax.random.key(0), ("encoder", "decoder")))
    grown = grow(first, config, new, power=POWER)
    start = np.asarray(first["encoder/linear/kernel"]).max()
    scale = start / np.asarray(fresh["encoder/linear/kernel"]).max()
    for name, factor in (("encoder/linear/kernel", scale), ("decoder/linear/kernel", 1 / scale)):
        np.testing.assert_allclose(grown[name], factor * fresh[name], rtol=1e-5, err_msg=name)
    # Their prior is as wide as photographs are thought to make them.
    sizes = grown["encoder/linear/kernel"].max(axis=0)[3:] / np.sqrt(POWER)
    bias = grown["hyper_synthesis/conv_4/conv/bias"]
    np.testing.assert_allclose(bias[8:], np.log2(sizes), rtol=1e-4)
    assert not bias[3:5].any()
    np.testing.assert_array_equal(grow_shift(np.array([1.0, 2.0]), 3), [1, 2, 0])


def test_a_grown_model_grows_again(large) -> None:
    config, params = large
    new = dataclasses.replace(config, latent_channels=6)
    grown = grow(params, config, new, power=POWER)
    assert {name: value.shape for name, value in grown.items()} == parameter_shapes(new)
    old, found = (Networks(c) for c in (config, new))
    prior = np.random.default_rng(3).standard_normal((1, 8, 8, 10)).astype(np.float32)
    wide = np.concatenate([prior[..., :5], prior[..., :1], prior[..., 5:], prior[..., :1]], axis=-1)
    levels, value = _levels(), prior[..., :5]
    context = {"hyper_context/conv_2/conv/kernel": 1.0}
    before = unflatten({k: v + context.get(k, 0) for k, v in params.items()})
    after = unflatten(grow(flatten(before), config, new, power=POWER))
    a = old.hyper_refine(before, prior, value, levels)
    b = found.hyper_refine(after, wide, np.pad(value, ((0, 0),) * 3 + ((0, 1),)), levels)
    assert np.any(a[0])
    for x, y in zip(a[:2], b[:2], strict=True):
        _close(y[..., :5], x)


def test_other_differences_are_refused_by_name(small) -> None:
    config, params = small
    hyper = dataclasses.replace
    cases = {
        "latent_channels": hyper(config, latent_channels=2),
        "unet.channels.0": hyper(config, unet=hyper(config.unet, channels=(8,))),
        "hyper.analysis": hyper(config, hyper=hyper(config.hyper, analysis=8)),
    }
    for path, new in cases.items():
        assert [change.path for change in obstacles(config, new)] == [path]
        with pytest.raises(UsageError, match=rf"model\.{path}: cannot grow from"):
            grow(params, config, new, power=POWER)
    assert not obstacles(config, hyper(config, node_range=(100, 200)))
    assert Networks(config).init(jax.random.key(0), ()) == {}  # no part asked for, none made
    context = [hyper(config, hyper=hyper(config.hyper, context=size)) for size in (4, 8)]
    assert [change.path for change in obstacles(*context)] == ["hyper.context"]
    pixels = hyper(config.autoencoder, channels=(4, 4, 4, 4), patch=1)
    plain = hyper(config, autoencoder=pixels)
    assert obstacles(plain, hyper(plain, latent_channels=5))


def test_a_run_begins_with_the_grown_model(tools, small, large, tmp_path) -> None:
    (config, params), (new, grown) = small, large
    with WeightsWriter(
        tmp_path / "weights",
        config,
        shift=np.array([0.5, -1.0, 2.0]),
        power=POWER,
        ranges=dict.fromkeys(tracked_ranges(config), 4.0),
    ) as writer:
        for name, value in params.items():
            writer.add(name, value.astype(np.float32))
    run = tools.config("joint", init_from=str(tmp_path / "weights"))
    setup = Setup.of(dataclasses.replace(run, model=new))
    with Checkpoints(tmp_path / "run") as checkpoints:
        state, step, _ = starting_state(setup, checkpoints)
    assert step == 0
    for name, value in flatten(state.params).items():
        np.testing.assert_allclose(value, grown[name], rtol=1e-6, atol=1e-7, err_msg=name)
    np.testing.assert_array_equal(state.stats.shift, [0.5, -1, 2, 0, 0])
    ranges = state.stats.ranges
    assert float(ranges["conv_0_out"]) == 4 and float(ranges["context_conv_0_out"]) == 0
