"""DDIM with a timestep per cell, checked with denoisers that know the answer."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.diffusion.sampler import clean_and_noise, ddim, linear_estimate, per_cell
from rcodec_jax.diffusion.schedule import alpha_bar

PREDICTIONS = ["epsilon", "v", "sample", "residual"]
KINDS = ["proportional", "synchronous"]
LEVELS_T = np.array([[20.0, 300.0, 777.5], [0.0, 500.0, 999.0]])


def prior_of(y):
    """Some prior: means near y, deviations from .3 to 3."""
    rng = np.random.default_rng(4)
    mean = y + jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    log2_sigma = jnp.asarray(rng.uniform(-1.7, 1.6, y.shape), jnp.float32)
    return jnp.concatenate([mean, log2_sigma], axis=-1)


@pytest.fixture
def scene():
    """Clean latent, noisy latent and level map of two pictures."""
    rng = np.random.default_rng(3)
    y = jnp.asarray(rng.normal(size=(2, 5, 7, 3)), jnp.float32)
    level_map = jnp.asarray(rng.integers(0, 3, (2, 5, 7)))
    abar = per_cell(alpha_bar(LEVELS_T, "scaled_linear"), level_map)
    noise = jnp.asarray(rng.uniform(-(3**0.5), 3**0.5, y.shape), jnp.float32)
    return y, jnp.sqrt(abar) * y + jnp.sqrt(1 - abar) * noise, level_map


def knowing(y, level_map, prediction: str, calls: list):
    """A denoiser that is always right about y."""

    def denoise(x, levels_t):
        calls.append(np.asarray(levels_t))
        abar = per_cell(alpha_bar(levels_t, "scaled_linear"), level_map)
        signal, noise = jnp.sqrt(abar), jnp.sqrt(1 - abar)
        epsilon = (x - signal * y) / noise
        mean, deviation = linear_estimate(x, prior_of(y), signal, noise)
        return {
            "epsilon": epsilon,
            "v": signal * epsilon - noise * y,
            "sample": y,
            "residual": (y - mean) / deviation,
        }[prediction]

    return denoise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_perfect_denoiser_recovers_the_latent(scene, prediction, kind, steps) -> None:
    y, x, level_map = scene
    calls: list[np.ndarray] = []
    denoise = knowing(y, level_map, prediction, calls)
    clean = ddim(
        denoise, x, level_map, LEVELS_T,
        steps=steps, prediction=prediction, schedule="scaled_linear", kind=kind, prior=prior_of(y),
    )  # fmt: skip
    # epsilon divides by sqrt(abar), .068 at t = 999
    np.testing.assert_allclose(np.asarray(clean), np.asarray(y), atol=3e-4)
    assert len(calls) == steps
    np.testing.assert_array_equal(calls[0], LEVELS_T)
    share = 1 / steps
    if kind == "proportional":
        np.testing.assert_allclose(calls[-1], share * LEVELS_T)
    else:
        last = share * LEVELS_T.max(1, keepdims=True)
        np.testing.assert_allclose(calls[-1], np.minimum(LEVELS_T, last))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_step_returns_the_first_estimate(scene, prediction) -> None:
    y, x, level_map = scene
    output, prior = jnp.sin(x), prior_of(y)
    clean = ddim(
        lambda x, t: jnp.sin(x), x, level_map, LEVELS_T,
        steps=1, prediction=prediction, schedule="scaled_linear", prior=prior,
    )  # fmt: skip
    abar = per_cell(alpha_bar(LEVELS_T, "scaled_linear"), level_map)
    expected, _ = clean_and_noise(x, output, jnp.sqrt(abar), jnp.sqrt(1 - abar), prediction, prior)
    # compiled and not, rounding differs in the last digits
    np.testing.assert_allclose(np.asarray(clean), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_all_predictions_say_the_same(scene, prediction) -> None:
    y, x, level_map = scene
    abar = per_cell(alpha_bar(LEVELS_T, "scaled_linear"), level_map)
    signal, noise = jnp.sqrt(abar), jnp.sqrt(1 - abar)
    output = knowing(y, level_map, prediction, [])(x, LEVELS_T)
    clean, epsilon = clean_and_noise(x, output, signal, noise, prediction, prior_of(y))
    np.testing.assert_allclose(np.asarray(signal * clean + noise * epsilon), x, atol=1e-5)
    np.testing.assert_allclose(np.asarray(clean), np.asarray(y), atol=3e-4)
    with pytest.raises(ValueError, match="residual, got 'score'"):
        clean_and_noise(x, output, signal, noise, "score")
    with pytest.raises(ValueError, match="with a prior"):
        clean_and_noise(x, output, signal, noise, "residual")


def test_the_linear_estimate_is_wieners() -> None:
    """Of Gaussians it is the conditional mean, with the conditional deviation."""
    rng = np.random.default_rng(5)
    mean, sigma, signal, noise = 0.7, 1.5, 0.8, 0.6
    y = mean + sigma * rng.normal(size=200_000)
    x = signal * y + noise * rng.normal(size=y.size)
    prior = jnp.full((1, 1, y.size, 2), jnp.asarray([mean, np.log2(sigma)], jnp.float32))
    estimate, deviation = linear_estimate(
        jnp.asarray(x, jnp.float32).reshape(1, 1, -1, 1), prior, jnp.asarray(signal),
        jnp.asarray(noise),
    )  # fmt: skip
    error = y - np.asarray(estimate).ravel()
    assert abs(np.mean(error)) < 0.01 and abs(np.mean(error * (x - x.mean()))) < 0.01
    assert np.std(error) == pytest.approx(float(deviation.ravel()[0]), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_map_is_a_scalar_timestep(scene, kind) -> None:
    _, x, _ = scene
    steps, t = 5, 640.0

    def network(x, t_of_cells):  # anything that looks at the timestep
        return jnp.tanh(x) * jnp.cos(t_of_cells / 300)

    levels_t = np.array([[17.0, t, 900.0]] * 2)
    level_map = jnp.ones(x.shape[:3], jnp.int32)
    kept = {"synchronous": 900.0, "proportional": t}[kind]
    mapped = ddim(
        lambda x, lt: network(x, per_cell(lt, level_map)), x, level_map, levels_t,
        steps=steps, prediction="v", schedule="scaled_linear", kind=kind,
    )  # fmt: skip
    # the scalar loop, as textbooks have it
    times = [min(t, kept * (1 - i / steps)) for i in range(steps)]
    for i, now in enumerate(times):
        abar = float(alpha_bar(now, "scaled_linear"))
        out = network(x, now)
        clean = abar**0.5 * x - (1 - abar) ** 0.5 * out
        epsilon = (1 - abar) ** 0.5 * x + abar**0.5 * out
        if i + 1 < steps:
            abar = float(alpha_bar(times[i + 1], "scaled_linear"))
            x = abar**0.5 * clean + (1 - abar) ** 0.5 * epsilon
    np.testing.assert_allclose(np.asarray(mapped), np.asarray(clean), rtol=1e-5, atol=1e-5)


def test_cells_do_not_see_one_another(scene) -> None:
    """The sampler itself is local: only the network may mix cells."""
    _, x, level_map = scene
    run = dict(steps=3, prediction="v", schedule="scaled_linear", kind="proportional")
    whole = ddim(lambda x, t: 0.5 * x, x, level_map, LEVELS_T, **run)
    part = ddim(lambda x, t: 0.5 * x, x[:, 1:3, 2:5], level_map[:, 1:3, 2:5], LEVELS_T, **run)
    np.testing.assert_array_equal(np.asarray(whole[:, 1:3, 2:5]), np.asarray(part))
