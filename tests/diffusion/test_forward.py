"""Universal quantisation is the forward process (arXiv 2604.01122)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rcodec_jax.diffusion.forward import diffuse, gaussian_noise, uniform_noise
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import dither_indices, dither_values

N = (250, 400, 4)
NODES = [0, 100, 400, 700, 900, 1023]


def dequantise(y: np.ndarray, mu: np.ndarray, node: int) -> np.ndarray:
    """The formulas of the format, in float64, with the format's own dither."""
    table = node_table("scaled_linear")
    s = 2 ** table.log2_scale[node]
    g = dither_values(dither_indices(*y.shape))
    j = np.floor(s * (y - mu) + g + 0.5)
    return np.sqrt(table.alpha_bar[node]) * mu + table.delta[node] * (j - g)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("prior", ["none", "good", "perfect"])
def test_error_is_uniform_and_independent_of_the_latent(node: int, prior: str) -> None:
    rng = np.random.default_rng(node)
    y = rng.normal(size=N)
    mu = {"none": 0 * y, "good": y + 0.1 * rng.normal(size=N), "perfect": y}[prior]
    table = node_table("scaled_linear")
    noise = 1 - table.alpha_bar[node]
    error = dequantise(y, mu, node) - np.sqrt(table.alpha_bar[node]) * y
    assert abs(error).max() <= table.delta[node] / 2 * (1 + 1e-9)
    assert error.var() == pytest.approx(noise, rel=0.01)
    assert abs(error.mean()) < 0.01 * np.sqrt(noise)
    assert abs(np.corrcoef(error.ravel(), y.ravel())[0, 1]) < 0.02
    if prior != "none":
        assert abs(np.corrcoef(error.ravel(), mu.ravel())[0, 1]) < 0.02
    # 64 dither points: the distribution is uniform up to a step of the grid
    unit = error.ravel() / table.delta[node] + 0.5
    assert stats.kstest(unit, "uniform").statistic < 1 / 64


@pytest.mark.parametrize("node", NODES)
def test_training_noise_has_the_distribution_of_files(node: int) -> None:
    table = node_table("scaled_linear")
    rng = np.random.default_rng(5)
    y = rng.normal(size=N)
    coded = dequantise(y, 0.3 * rng.normal(size=N), node)
    e = uniform_noise(jax.random.key(0), N)
    trained = diffuse(
        jnp.asarray(y, jnp.float32), e, jnp.float32(table.alpha_bar[node]),
        jnp.float32(table.delta[node]),
    )  # fmt: skip
    assert abs(float(e.min()) + 0.5) < 1e-3 and abs(float(e.max()) - 0.5) < 1e-3
    assert stats.ks_2samp(coded.ravel(), np.asarray(trained).ravel()).statistic < 0.01
    noise = trained - np.sqrt(table.alpha_bar[node]) * y
    assert float(jnp.var(noise)) == pytest.approx(1 - table.alpha_bar[node], rel=0.02)
    assert float(jnp.var(trained)) == pytest.approx(1, rel=0.02)


def test_a_map_of_timesteps_acts_cell_by_cell() -> None:
    table = node_table("scaled_linear")
    nodes = np.array([[10, 500], [900, 10]])
    y = jnp.ones((1, 2, 2, 3))
    e = uniform_noise(jax.random.key(1), y.shape)
    abar, delta = (
        jnp.asarray(c[nodes][None, :, :, None], jnp.float32) for c in (table.alpha_bar, table.delta)
    )
    x = diffuse(y, e, abar, delta)
    for r, c in np.ndindex(2, 2):
        alone = diffuse(y[:, r, c], e[:, r, c], abar[:, r, c], delta[:, r, c])
        np.testing.assert_array_equal(np.asarray(x[:, r, c]), np.asarray(alone))


def test_gaussian_noise_has_the_variance_of_uniform_noise() -> None:
    key, shape = jax.random.key(3), (200, 500)
    gaussian, uniform = gaussian_noise(key, shape), uniform_noise(key, shape)
    assert float(gaussian.var()) == pytest.approx(1 / 12, rel=0.02)
    assert float(uniform.var()) == pytest.approx(1 / 12, rel=0.02)
    assert stats.kurtosis(np.asarray(gaussian).ravel()) == pytest.approx(0, abs=0.05)
