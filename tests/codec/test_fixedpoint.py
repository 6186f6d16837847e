"""The frozen entropy model against the float one it was made of, and against training's estimate.

`nano_entropy_floats.npz` holds the float parameters of the nano bundle's hyper-synthesis and
hyper-prior, and the ranges that training tracked.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.codec import Codec
from rcodec_jax.codec.decode import dequantise
from rcodec_jax.codec.quantise import quantise
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import PRIOR_BITS, IntegerPart, dither_values, sigma_of_level
from rcodec_jax.errors import BundleError
from rcodec_jax.model.fixedpoint import integer_part
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.rateloss import prior_bits
from rcodec_jax.regions.levelmap import LevelMap, quantise_nodes, uniform_level_map
from rcodec_jax.train.step.forward import Noise, code_latent

NODES = [120, 250, 400, 600, 800]


@pytest.fixture(scope="module")
def networks(bundle) -> Networks:
    return Networks(bundle.config)


@pytest.fixture(scope="module")
def latents(codec, photos, astronaut) -> list[np.ndarray]:
    """Scaled latents of four pictures of 256x256, [32,32,4] each."""
    corners = [(0, 0), (0, 128), (128, 64), (256, 256)]
    crops = [np.ascontiguousarray(astronaut[r : r + 256, c : c + 256]) for r, c in corners]
    return [codec._programs.latent(crop) for crop in crops]


def level_maps() -> list[LevelMap]:
    """Uniform ones and one with all sixteen levels."""
    slope = 100 + 700 * np.arange(32 * 32).reshape(32, 32) // 1023
    return [uniform_level_map(32, 32, node=node) for node in NODES] + [quantise_nodes(slope)]


def sixteen(levels: LevelMap) -> np.ndarray:
    """Nodes with the last repeated: one compiled program for every map."""
    return np.pad(levels.nodes, (0, 16 - levels.nodes.size), mode="edge")


float_bits = functools.partial(prior_bits, table=node_table("scaled_linear"), points=256)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_another_noise_schedule_is_another_model(bundle, floats, photos, schedule) -> None:
    """It is in the digest, and a file's noise is that of its model's timesteps."""
    config = dataclasses.replace(bundle.config, noise_schedule=schedule)
    part = integer_part(config, floats, floats["ranges"])
    assert part.digest != integer_part(bundle.config, floats, floats["ranges"]).digest
    codec = Codec(dataclasses.replace(bundle, config=config, integers=part))
    image = photos["face"]
    options: dict[str, Any] = {"quality": 60, "rdoq_lambda": math.inf, "effort": 1}
    data = codec.encode_detailed(image, **options).data
    _, levels, symbols = read_symbols(data, part)
    table = node_table(schedule)
    x, _ = dequantise(symbols, levels, table)
    y = codec._programs.latent(image)[: x.shape[0], : x.shape[1]]
    error = x - np.sqrt(table.alpha_bar)[levels.node_map][..., None] * y
    np.testing.assert_array_less(abs(error), 0.5001 * table.delta[levels.n_lo])
    assert codec.decode(data).shape == image.shape


def test_freezing_again_gives_the_same_part(bundle, floats) -> None:
    """Up to the last unit of a FiLM row, where another machine's exp may round another way."""
    again = integer_part(bundle.config, floats, floats["ranges"])
    for new, old in zip(again.network.layers, bundle.integers.network.layers, strict=True):
        assert type(new) is type(old)
        for name, value in vars(old).items():
            if isinstance(value, np.ndarray):
                error = np.abs(getattr(new, name).astype(float) - value).max()
                assert error <= (1 if name == "rows" else 0)
            else:
                assert getattr(new, name) == value
    np.testing.assert_array_equal(
        again.hyper_tables.bank.listed, bundle.integers.hyper_tables.bank.listed
    )
    assert IntegerPart.from_bytes(again.to_bytes()).digest == again.digest


def test_integers_follow_the_float_network(bundle, networks, floats, codec, latents) -> None:
    """Means and spreads to a few thousandths, the rate to 0.3 %."""

    @jax.jit
    def hyper(z, level_map, nodes):
        return networks.hyper_decode(floats, z, LevelInputs.of(level_map, nodes))

    for levels in level_maps():
        rates = np.zeros(2)
        for y in latents:
            z = codec._programs.hyper(y, levels)
            prior = bundle.integers.predict(z, levels)
            fixed = [a / 2.0**PRIOR_BITS for a in (prior.mean, prior.log2_sigma)]
            mean, log2_sigma, _ = hyper(
                jnp.asarray(z[None], jnp.float32), levels.level_map[None], sixteen(levels)[None]
            )
            np.testing.assert_allclose(fixed[0], np.asarray(mean[0]), atol=0.005)
            np.testing.assert_allclose(fixed[1], np.asarray(log2_sigma[0]), atol=0.01)
            rates += [
                float_bits(y, jnp.asarray(mean[0]), jnp.asarray(log2_sigma[0]), levels),
                float_bits(y, *(jnp.asarray(a, jnp.float32) for a in fixed), levels),
            ]
        assert rates[1] == pytest.approx(rates[0], rel=0.003)


def test_files_cost_what_training_believes(bundle, networks, floats, codec, latents) -> None:
    """The y part of coded payloads within 3 % of the estimate with uniform noise.

    One file has one dither; four pictures and all maps together leave little of its chance.
    """
    params = jax.tree.map(jnp.asarray, bundle.params) | floats

    @jax.jit
    def estimate(y, level_map, nodes, key):
        noise = Noise.draw(key, y.shape, networks.config.hyper.hyper_channels)
        coded = code_latent(networks, params, y, LevelInputs.of(level_map, nodes), noise=noise)
        return jnp.sum(coded.bits_y)

    batch = jnp.asarray(np.stack(latents))
    coded, believed = [], []
    for levels in level_maps():
        symbols = [
            quantise(bundle, codec._programs, y, levels, rdoq_lambda=math.inf) for y in latents
        ]
        coded.append(sum(float(s.bits_y.sum()) for s in symbols))
        maps, nodes = np.stack([levels.level_map] * 4), np.stack([sixteen(levels)] * 4)
        draws = [estimate(batch, maps, nodes, jax.random.key(seed)) for seed in range(10)]
        believed.append(float(np.mean(draws)))
    assert sum(coded) == pytest.approx(sum(believed), rel=0.01)
    for node, a, b in zip([*NODES, "slope"], coded, believed, strict=True):
        # a coarse file is a few hundred rare events: its own bits vary by more than 3 %
        assert a == pytest.approx(b, rel=0.03 + 2 / math.sqrt(b)), node


def test_over_all_dithers_the_tables_cost_what_training_believes(bundle, codec, latents) -> None:
    """The same without chance, as the mean over the 64 dithers, all maps together.

    To 1 % of the float density at the spread of the table that is used; a coarse map of a few
    thousand bits, of which escapes are a part, to 3 %. Rounding spreads to 64 tables costs or gains
    to first order where the prior is off, as the nano model's is: within the 3 % of files.
    """
    part, y = bundle.integers, latents[1]
    totals, rounded, unrounded = [], [], []
    for levels in level_maps():
        z = codec._programs.hyper(y, levels)
        prior = part.predict(z, levels)
        mean, log2_sigma = (a / 2.0**PRIOR_BITS for a in (prior.mean, prior.log2_sigma))
        index = part.sigma_index(prior, levels)
        log2_s = node_table("scaled_linear").log2_scale[levels.node_map][..., None]
        total = 0.0
        for number in range(64):
            dither = np.full(y.shape, number, np.uint8)
            v = np.exp2(log2_s) * (y - mean)
            j = np.floor(v + dither_values(dither) + 0.5).astype(np.int64)
            total += part.gaussian.bits(index, dither, j).sum() / 64
        of_table = np.log2(sigma_of_level(index)) - log2_s
        at_table, at_prior = (
            float_bits(y, jnp.asarray(mean, jnp.float32), jnp.asarray(spread, jnp.float32), levels)
            for spread in (of_table, log2_sigma)
        )
        assert total == pytest.approx(at_table, rel=0.03), levels.n_lo
        totals.append(total)
        rounded.append(at_table)
        unrounded.append(at_prior)
    assert sum(totals) == pytest.approx(sum(rounded), rel=0.01), (totals, rounded)
    assert sum(totals) == pytest.approx(sum(unrounded), rel=0.03), (totals, unrounded)


def test_hyper_tables_cost_what_the_prior_says(bundle, networks, floats) -> None:
    """z under the static tables and under the float prior, over what the tables list."""
    k = np.arange(-3, 4)
    z = np.broadcast_to(k[:, None, None], (7, 1, 4)).copy()
    for node in (0, 300, 700, 1023):
        levels = uniform_level_map(28, 1, node=node)
        tables = bundle.integers.hyper_tables.bits(bundle.integers.cell_classes(levels), z)
        padded = LevelInputs.of(jnp.zeros((1, 28, 4), jnp.int32), jnp.full((1, 1), node, jnp.int32))
        symbols = jnp.asarray(z[None], jnp.float32)
        believed = networks.hyper_bits(floats, symbols, padded, symbols)[0]
        likely = np.asarray(believed) < 8
        assert likely.any()
        np.testing.assert_allclose(tables[likely], np.asarray(believed)[likely], atol=0.05)


def test_models_that_cannot_be_exact_are_refused(bundle, floats) -> None:
    def freeze(tree: dict) -> IntegerPart:
        return integer_part(bundle.config, tree, tree["ranges"])

    for path in (("conv_2", "conv", "kernel"), ("conv_1", "conv", "bias")):
        broken = copy.deepcopy(floats)
        layer = broken["hyper_synthesis"][path[0]][path[1]]
        layer[path[2]] = np.full_like(layer[path[2]], np.nan)
        with pytest.raises(BundleError, match="hyper-synthesis is not finite"):
            freeze(broken)
    broken = copy.deepcopy(floats)
    broken["hyper_prior"]["mean"] = np.full_like(broken["hyper_prior"]["mean"], np.nan)
    with pytest.raises(BundleError, match="prior of the hyper-latents"):
        freeze(broken)
    broken = copy.deepcopy(floats)
    broken["ranges"]["film_1_out"] = float("inf")
    with pytest.raises(BundleError, match="a range of the hyper-synthesis is inf"):
        freeze(broken)


def test_an_untrained_or_a_wild_model_can_be_frozen(bundle, floats) -> None:
    """Zero weights, ranges of zero, and weights far larger than the activations they make."""
    blank = copy.deepcopy(floats)
    for name in ("conv_1", "conv_4"):
        layer = blank["hyper_synthesis"][name]["conv"]
        layer["kernel"] = np.zeros_like(layer["kernel"])
    blank["ranges"] = dict.fromkeys(blank["ranges"], 0.0)
    wild = copy.deepcopy(floats)
    wild["hyper_synthesis"]["conv_0"]["conv"]["kernel"] *= 1000
    wild["ranges"] = dict.fromkeys(wild["ranges"], 0.1)
    levels = quantise_nodes(np.array([[100, 900]], np.int32))
    z = np.array([[[3, -2, 0, 1]]])
    for tree in (blank, wild):
        part = integer_part(bundle.config, tree, tree["ranges"])
        prior = part.predict(z, levels)
        assert prior.mean.shape == (1, 2, 4) and prior.mean.dtype == np.int16
