"""Code lengths under continuous priors: exact in the middle, finite and useful in the tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rcodec_jax.entropy import GaussianTables, dither_values
from rcodec_jax.levels import SCALE_MAX, SCALE_MIN
from rcodec_jax.ops.densities import gaussian_bits, logistic_bits

SCALES = np.array([SCALE_MIN, 0.1, 0.5, 1.0, 4.0, SCALE_MAX])


@pytest.mark.parametrize("scale", SCALES.tolist())
def test_gaussian_is_the_mass_of_a_unit_interval(scale: float) -> None:
    v = np.linspace(-3 * scale - 1, 3 * scale + 1, 201, dtype=np.float32)
    # survival functions of the size keep the digits that a difference of cdfs would lose
    mass = stats.norm.sf((abs(v) - 0.5) / scale) - stats.norm.sf((abs(v) + 0.5) / scale)
    seen = mass > 3e-3  # where the share of the escape is below the tolerance
    bits = np.asarray(gaussian_bits(jnp.asarray(v), jnp.asarray(scale)))
    np.testing.assert_allclose(bits[seen], -np.log2(mass[seen]), atol=0.02)


@pytest.mark.parametrize("bits_of", [gaussian_bits, logistic_bits])
@pytest.mark.parametrize("dither", [-0.49, -0.2, 0.0, 0.31])
def test_probabilities_of_all_symbols_sum_to_one(bits_of, dither: float) -> None:
    j = jnp.arange(-2000, 2001, dtype=jnp.float32)
    for scale in SCALES[1:]:
        total = float(jnp.sum(2.0 ** -bits_of(j - dither, jnp.asarray(scale, jnp.float32))))
        assert total == pytest.approx(1.0, abs=2e-3), scale  # tables clip no wide tail here


def test_limits_of_the_gaussian() -> None:
    # much wider than a bin: differential entropy at the value; much narrower: certain, or far out
    wide = float(gaussian_bits(jnp.zeros(()), jnp.asarray(SCALE_MAX)))
    assert wide == pytest.approx(np.log2(SCALE_MAX * np.sqrt(2 * np.pi)), abs=0.02)
    narrow = jnp.asarray(SCALE_MIN)
    assert float(gaussian_bits(jnp.asarray(0.4), narrow)) == pytest.approx(0.0, abs=1e-3)
    assert float(gaussian_bits(jnp.asarray(0.5), narrow)) == pytest.approx(1.0, abs=1e-3)
    assert 14 < float(gaussian_bits(jnp.asarray(0.7), narrow)) < 17


@pytest.mark.parametrize("bits_of", [gaussian_bits, logistic_bits])
def test_symmetric_and_rising_with_the_distance(bits_of) -> None:
    v = jnp.asarray(np.geomspace(1e-3, 1e5, 400), jnp.float32)
    for scale in jnp.asarray(SCALES, jnp.float32):
        bits = np.asarray(bits_of(v, scale))
        np.testing.assert_array_equal(bits, np.asarray(bits_of(-v, scale)))
        assert np.all(np.diff(bits) > -1e-4)
        assert np.all(bits > -1e-4)


@pytest.mark.parametrize("bits_of", [gaussian_bits, logistic_bits])
def test_finite_values_and_gradients_far_out(bits_of) -> None:
    v, scale = np.meshgrid([0.0, 0.5, 1.0, 30.0, 1e3, 1e5, -1e5], SCALES)
    v, scale = jnp.asarray(v, jnp.float32), jnp.asarray(scale, jnp.float32)
    gradient = jax.grad(lambda v, scale: jnp.sum(bits_of(v, scale)), argnums=(0, 1))(v, scale)
    assert np.isfinite(np.asarray(bits_of(v, scale))).all()
    assert all(np.isfinite(np.asarray(g)).all() for g in gradient)
    # and the gradient still says which way is cheaper
    assert np.all(np.asarray(gradient[0])[:, 5] > 0) and np.all(np.asarray(gradient[0])[:, 6] < 0)


def test_integer_tables_cost_what_training_believes() -> None:
    rng = np.random.default_rng(0)
    tables = GaussianTables.build()
    n = 200_000
    dither = rng.integers(0, 64, n).astype(np.uint8)
    for level in (0, 10, 20, 30, 40, 50, 60):
        sigma = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** (level / 63)
        v = rng.normal(0, sigma, n)
        j = np.floor(v + dither_values(dither) + 0.5).astype(np.int64)
        coded = tables.bits(np.full(n, level, np.uint8), dither, j).mean()
        e = rng.uniform(-0.5, 0.5, n)
        believed = float(
            jnp.mean(gaussian_bits(jnp.asarray(v + e, jnp.float32), jnp.asarray(sigma)))
        )
        assert coded == pytest.approx(believed, rel=0.03, abs=2e-4), sigma
