"""The switches `see_node` and `see_map`: each hides what it names, in training and in files."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.codec.codec import Codec
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import IntegerPart, decode_symbols, encode_symbols
from rcodec_jax.levels import HIDDEN_NODE, level_nodes, seen_nodes
from rcodec_jax.model.fixedpoint import integer_part
from rcodec_jax.model.networks import LevelInputs, Networks, parameter_shapes
from rcodec_jax.model.trees import unflatten
from rcodec_jax.regions.levelmap import LevelMap

SWITCHES = [(True, True), (True, False), (False, True), (False, False)]
BOTH = SWITCHES[0]


def map_of(n_lo: int, n_hi: int, seed: int) -> LevelMap:
    drawn = np.random.default_rng(seed).integers(0, 4, (8, 8)).astype(np.uint8)
    return LevelMap(drawn, n_lo, n_hi, 4)


HERE = map_of(300, 500, 1)
SHIFTED = dataclasses.replace(HERE, n_lo=420, n_hi=620)
"""The same map at another timestep."""
OTHER = map_of(340, 460, 2)
"""Another map at the same timestep."""


def with_switches(config, see_node: bool, see_map: bool):
    hyper = dataclasses.replace(config.hyper, see_node=see_node, see_map=see_map)
    return dataclasses.replace(config, hyper=hyper)


@pytest.fixture(scope="module")
def model(bundle) -> tuple[ModelConfig, dict]:
    """A model with a context network, every one of whose parameters is at random."""
    config = dataclasses.replace(
        bundle.config, hyper=dataclasses.replace(bundle.config.hyper, context=4)
    )
    rng = np.random.default_rng(7)
    shapes = parameter_shapes(config)
    flat = {path: 0.15 * rng.normal(size=shape).astype("f4") for path, shape in shapes.items()}
    return config, jax.tree.map(jnp.asarray, unflatten(flat))


def test_nodes_that_are_seen() -> None:
    nodes = np.array([100, 150, 230, 230])  # their middle is 165
    for switches, expected in (
        ((True, True), nodes),
        ((True, False), [165] * 4),
        ((False, True), HIDDEN_NODE + nodes - 165),
        ((False, False), [HIDDEN_NODE] * 4),
    ):
        see_node, see_map = switches
        given = {"see_node": see_node, "see_map": see_map}
        assert list(seen_nodes(nodes, **given)) == list(expected)
        assert list(seen_nodes(jnp.asarray(nodes)[None], **given)[0]) == list(expected)
        ends = seen_nodes(level_nodes(0, 1023, 16), **given)
        assert ends.min() >= 0 and ends.max() <= 1023 and (np.diff(ends) >= 0).all()


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_switch_hides_what_it_names(model, switches) -> None:
    """From every network and from the tables of z, in floats; and integers see what floats see."""
    (see_node, see_map), (config, params) = switches, model
    config = with_switches(config, *switches)
    networks = Networks(config)
    rng = np.random.default_rng(3)
    y = jnp.asarray(rng.normal(size=(1, 8, 8, 4)), jnp.float32)
    z = jnp.asarray(rng.integers(-3, 4, (1, 2, 2, 4)), jnp.float32)

    @jax.jit
    def outputs(level_map, nodes):
        levels = LevelInputs.of(level_map, nodes)
        mean, log2_sigma, ranges = networks.hyper_decode(params, z, levels)
        prior = jnp.concatenate([mean, log2_sigma], axis=-1)
        change, stretch, more = networks.hyper_refine(params, prior, y, levels)
        encoded = networks.hyper_encode(params, y, levels)
        bits = networks.hyper_bits(params, z, levels, z)
        return (mean, log2_sigma, change, stretch, encoded, bits), ranges | more

    maps = (HERE, SHIFTED, OTHER)
    found = [outputs(levels.level_map[None], levels.padded_nodes[None]) for levels in maps]
    here, shifted, other = ([np.asarray(one) for one in arrays] for arrays, _ in found)
    for seen, there in ((see_node, shifted), (see_map, other)):
        *networks_differ, tables_differ = (
            np.abs(a - b).max() > 1e-5 for a, b in zip(here, there, strict=True)
        )
        assert networks_differ == [seen] * 5
        assert seen or not tables_differ  # they are by class of nodes, and may agree

    ranges = {name: max(float(one[name]) for _, one in found) for name in found[0][1]}
    part = integer_part(config, params, ranges)
    stored = IntegerPart.from_bytes(part.to_bytes())
    assert stored.sees == part.sees and stored.digest == part.digest
    assert (b'"sees"' in part.to_bytes().replace(b"\\", b"")) == (switches != BOTH)
    symbols = np.asarray(z[0], np.int32)
    for levels, (arrays, _) in zip(maps, found, strict=True):
        prior = stored.predict(symbols, levels)
        np.testing.assert_allclose(prior.mean / 2048, arrays[0][0], atol=0.01)
        np.testing.assert_allclose(prior.log2_sigma / 2048, arrays[1][0], atol=0.01)
        classes = stored.cell_classes(levels)
        assert (len(set(classes.ravel())) == 1) or see_map
        j = rng.integers(-2, 3, (8, 8, 4)).astype(np.int32)
        back = decode_symbols(stored, encode_symbols(part, symbols, j, levels), 8, 8, levels)
        np.testing.assert_array_equal(back.z, symbols)
        np.testing.assert_array_equal(back.j, j)


def test_an_ablated_bundle_codes_pictures(bundle, floats, astronaut) -> None:
    """With a region, whose timesteps the quantiser has although nobody sees the map."""
    config = with_switches(bundle.config, True, False)
    part = integer_part(config, floats, floats["ranges"])
    codec = Codec(dataclasses.replace(bundle, config=config, integers=part))
    picture = np.ascontiguousarray(astronaut[:64, 64:128])
    importance = np.zeros((64, 64), np.float32)
    importance[:, :32] = 1
    data = codec.encode(picture, importance=importance, roi_strength=1.0, quality=60, effort=1)
    decoded = codec.decode(data).astype(np.float64)
    errors = np.square(decoded - picture).mean(axis=(0, 2))
    assert decoded.shape == picture.shape and errors[:32].mean() < errors[32:].mean()


def test_a_denoiser_that_is_told_one_timestep(bundle) -> None:
    """It is that of the middle of the picture's range, in every cell."""
    x, y = np.random.default_rng(4).normal(size=(2, 1, 8, 8, 4)).astype("f4")
    prior = jnp.asarray(np.concatenate([x, y], axis=-1))
    unet = dataclasses.replace(bundle.config.unet, see_map=False)
    blind = Networks(dataclasses.replace(bundle.config, unet=unet))
    seeing = Networks(bundle.config)
    params = {"unet": bundle.params["unet"]}
    level_map = jnp.asarray(HERE.level_map[None])
    t = jnp.asarray([[100.0, 150.0, 400.0, 500.0]])
    middle = jnp.full_like(t, 300.0)
    given = params, jnp.asarray(x)
    told = blind.denoise(*given, t, level_map, prior)
    np.testing.assert_allclose(told, seeing.denoise(*given, middle, level_map, prior), atol=1e-5)
    assert np.abs(told - seeing.denoise(*given, t, level_map, prior)).max() > 1e-4
