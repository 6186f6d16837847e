"""Trimming: never worse by its own measure, never away from 0, and files stay ordinary files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import dither_indices, dither_values
from rcodec_jax.entropy.distributions.gaussian import GaussianTables, sigma_of_level
from rcodec_jax.entropy.distributions.rdoq import rdoq

SHAPE = (40, 50, 8)


@pytest.fixture(scope="module")
def scene() -> dict:
    """Residuals of every spread, quantised with dither under the tables that fit them."""
    rng = np.random.default_rng(1)
    tables = GaussianTables.build()
    index = rng.integers(0, 64, SHAPE).astype(np.uint8)
    sigma = sigma_of_level(index)
    dither = dither_indices(*SHAPE)
    v = sigma * rng.normal(size=SHAPE)
    j = np.floor(v + dither_values(dither) + 0.5).astype(np.int64)
    bits = tables.bits(index, dither, j)
    return dict(
        j=j, v=v, sigma=sigma, bits=bits, tables=tables, sigma_index=index, dither_index=dither
    )


def error(scene: dict, j: np.ndarray) -> np.ndarray:
    """Squared error of the linear estimate, in squared steps."""
    gain = scene["sigma"] ** 2 / (scene["sigma"] ** 2 + 1 / 12)
    return np.square(gain * (j - dither_values(scene["dither_index"])) - scene["v"])


@pytest.mark.parametrize("rdoq_lambda", [0.0, 8.7, 24.0, 1e9])
def test_every_position_gets_what_costs_least(scene, rdoq_lambda) -> None:
    j, bits = rdoq(**scene, rdoq_lambda=rdoq_lambda)
    np.testing.assert_array_equal(
        bits, scene["tables"].bits(scene["sigma_index"], scene["dither_index"], j)
    )
    before = scene["bits"] + rdoq_lambda * error(scene, scene["j"])
    after = bits + rdoq_lambda * error(scene, j)
    assert np.all(after <= before)
    lost = np.abs(scene["j"]) - np.abs(j)
    assert np.all((lost >= 0) & (lost <= 2)) and np.all(j * scene["j"] >= 0)


def test_the_trade_trades(scene) -> None:
    """The more error costs, the more bits are spent; without a price on it, most come off."""
    rates, errors = [], []
    for rdoq_lambda in (0.0, 8.7, 24.0, 100.0, 1e9):
        j, bits = rdoq(**scene, rdoq_lambda=rdoq_lambda)
        rates.append(bits.sum())
        errors.append(error(scene, j).sum())
    assert np.all(np.diff(rates) > 0) and np.all(np.diff(errors) < 0)
    # Where spreads are below a step, the share of rate saved is above the share of error added.
    small = scene["sigma"] < 0.5
    j, bits = rdoq(**scene, rdoq_lambda=24.0)
    saved = 1 - bits[small].sum() / scene["bits"][small].sum()
    added = error(scene, j)[small].sum() / error(scene, scene["j"])[small].sum() - 1
    assert saved > max(0.05, 2 * added)


def test_a_trimmed_file_is_an_ordinary_one(codec, photos) -> None:
    plain = codec.encode_detailed(photos["cat"], quality=70, effort=1, rdoq_lambda=math.inf)
    trimmed = codec.encode_detailed(photos["cat"], quality=70, effort=1, rdoq_lambda=4.0)
    assert len(trimmed.data) < len(plain.data)
    for encoded in (plain, trimmed):
        _, _, symbols = read_symbols(encoded.data, codec.bundle.integers)
        np.testing.assert_array_equal(symbols.j, encoded.symbols.j)
    assert np.count_nonzero(trimmed.symbols.j) < np.count_nonzero(plain.symbols.j)
