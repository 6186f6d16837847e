"""The shipped model's exact entropy model against the floats behind it: neighbours and context.

The nano bundle of the other tests has neither.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from rcodec_jax.codec.codec import Codec
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import PRIOR_BITS, dither_indices, dither_values
from rcodec_jax.model.bundle import load_bundle
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.model.unfreezing import unfreeze
from rcodec_jax.passes import first_half

CELLS = (16, 24)


@pytest.fixture(scope="module")
def coded() -> dict[str, Any]:
    """Symbols of a photo at four timesteps, and the float networks."""
    bundle = load_bundle("shipped")
    assert bundle.integers.context is not None
    height, width = 8 * CELLS[0], 8 * CELLS[1]
    pixels = np.ascontiguousarray(data.astronaut()[32 : 32 + height, 160 : 160 + width])
    importance = np.repeat(np.linspace(0, 1, 4), width // 4)[None].repeat(height, 0)
    symbols = (
        Codec(bundle).encode_detailed(pixels, importance=importance, quality=50, effort=1).symbols
    )
    params = jax.tree.map(jnp.asarray, unfreeze("shipped", bundle)[0])
    return {"bundle": bundle, "symbols": symbols, "params": params, "levels": symbols.levels}


def _inputs(levels: Any) -> LevelInputs:
    nodes = np.pad(levels.nodes, (0, 16 - levels.nodes.size), mode="edge")
    return LevelInputs.of(jnp.asarray(levels.level_map)[None], jnp.asarray(nodes)[None])


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def test_code_lengths_of_hyper_latents_are_those_of_training(coded: dict[str, Any]) -> None:
    z, levels = coded["symbols"].z, coded["levels"]
    exact = coded["bundle"].integers.hyper_bits(z, levels)
    value = jnp.asarray(z, jnp.float32)[None]
    networks = Networks(coded["bundle"].config)
    trained = networks.hyper_bits(coded["params"], value, _inputs(levels), value)[0]
    assert exact.sum() == pytest.approx(float(trained.sum()), rel=0.01)
    likely = exact < 12  # tables have no probability below 2^-16
    np.testing.assert_allclose(exact[likely], trained[likely], atol=0.1)


def test_context_network_is_that_of_training(coded: dict[str, Any]) -> None:
    bundle, levels = coded["bundle"], coded["levels"]
    part, j = bundle.integers, coded["symbols"].j
    before = part.predict(coded["symbols"].z, levels)
    after = part.refine(before, j, levels)
    mean, log2_sigma = (a / 2.0**PRIOR_BITS for a in (before.mean, before.log2_sigma))

    log2_scale = node_table(bundle.config.noise_schedule).log2_scale[levels.node_map][..., None]
    u = j - dither_values(dither_indices(*j.shape))
    if part.centroids is None:
        share = 4.0 ** (log2_sigma + log2_scale)
        estimate = share / (share + 1 / 12) * u
    else:
        estimate = part.centroids.estimate(part.sigma_index(before, levels), u)
    first = first_half(*j.shape)
    value = np.where(first, estimate / 2.0**log2_scale, 0)
    given = (np.concatenate([mean, log2_sigma], axis=-1), value)
    change, stretch, _ = Networks(bundle.config).hyper_refine(
        coded["params"], *(jnp.asarray(a, jnp.float32)[None] for a in given), _inputs(levels)
    )
    for name, old, step in (("mean", mean, change), ("log2_sigma", log2_sigma, stretch)):
        exact = getattr(after, name) / 2.0**PRIOR_BITS
        np.testing.assert_array_equal(exact[first], old[first])
        moved, wanted = (exact - old)[~first], np.asarray(step[0])[~first]
        assert _rms(moved - wanted) < 0.05 * _rms(wanted)  # both networks round
