"""DISTS: its formula by hand and as published, its pool, and what holds for any weights."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import dists, perceptual
from rcodec_jax.metrics.dists import Dists, weighted_distance

weighted = jax.jit(weighted_distance)


@pytest.fixture(scope="module")
def network() -> Dists:
    """VGG16 with 4 channels in place of 64 and so on."""
    rng = np.random.default_rng(0)
    params = {}
    for name, shape in dists.expected_shapes().items():
        if name in ("alpha", "beta"):
            params[name] = rng.random(3 + (shape[0] - 3) // 16, np.float32)
        else:
            shape = (*shape[:-2], *(n if n == 3 else n // 16 for n in shape[-2:]))
            fan_in = np.prod(shape[:-1]) if len(shape) == 4 else 100
            params[name] = rng.standard_normal(shape, np.float32) * math.sqrt(2 / fan_in)
    return Dists({name: jnp.asarray(value) for name, value in params.items()})


def test_zero_for_equal_pictures_symmetric_and_positive(network: Dists) -> None:
    rng = np.random.default_rng(1)
    a, b, flat = rng.uniform(-1, 1, (3, 32, 33, 3)).astype(np.float32)
    flat[:] = 0.25
    pairs = np.stack([a, a, b, flat]), np.stack([a, b, a, flat])
    found = np.asarray(jax.jit(network.__call__)(*pairs))
    assert found.shape == (4,) and found.dtype == np.float32
    assert found[0] == found[3] == 0
    assert found[1] > 0 and found[1] == pytest.approx(found[2], rel=1e-5)


def test_the_formula_by_hand() -> None:
    """Two stages of one channel and two places each."""
    a = [jnp.array([1.0, 3]).reshape(1, 1, 2, 1), jnp.array([0.0, 2]).reshape(1, 2, 1, 1)]
    b = [jnp.array([2.0, 2]).reshape(1, 1, 2, 1), jnp.array([1.0, 5]).reshape(1, 2, 1, 1)]
    # First: equal means, texture 1; one of them flat, structure 0.
    # Second: means 1 and 3, 6 / 10; variances 1 and 4, covariance 2, 4 / 5.
    texture, structure = (1, 0.6), (0, 0.8)
    expected = 1 - (1 * texture[0] + 2 * texture[1] + 3 * structure[0] + 4 * structure[1]) / 10
    found = weighted(a, b, jnp.array([1.0, 2]), jnp.array([3.0, 4]))
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_the_formula_as_published() -> None:
    """In float64, with covariances; also where structure is opposite, and above 1."""
    rng = np.random.default_rng(2)
    a = rng.normal(1, 1, (2, 5, 4, 3))
    b = np.stack([a[0] + rng.normal(0, 0.5, a[0].shape), 2 - a[1]])
    weights = rng.random((2, 3))
    weights[0] /= 10
    alpha, beta = weights / weights.sum()
    mx, my = a.mean(axis=(1, 2)), b.mean(axis=(1, 2))
    cov = (a * b).mean(axis=(1, 2)) - mx * my
    texture = (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
    structure = (2 * cov + 1e-6) / (a.var(axis=(1, 2)) + b.var(axis=(1, 2)) + 1e-6)
    expected = 1 - (texture @ alpha + structure @ beta)
    assert expected[1] > 1
    given = (jnp.asarray(x, jnp.float32) for x in (a, b))
    found = weighted(*([x] for x in given), *jnp.asarray(7 * weights, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_pool_is_a_root_of_weighted_squares() -> None:
    x = np.random.default_rng(3).normal(size=(1, 5, 4, 2)).astype(np.float32)
    found = jax.jit(dists._l2_pool)(x)
    assert found.shape == (1, 3, 2, 2)
    window = np.hanning(5)[1:-1]
    padded = np.pad(x.astype(np.float64) ** 2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i, j in np.ndindex(3, 2):
        part = padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected = np.sqrt(np.einsum("ijc,i,j->c", part, window, window) / window.sum() ** 2)
        np.testing.assert_allclose(found[0, i, j], expected, rtol=1e-5)


def test_the_picture_is_a_stage_in_0_to_1_and_normalised_as_torchvision_does() -> None:
    unit = np.random.default_rng(4).random((1, 2, 2, 3), np.float32)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    found = perceptual._normalised(jnp.asarray(2 * unit - 1))
    np.testing.assert_allclose(found, (unit - mean) / deviation, atol=1e-5)
    assert sum(dists.CHANNELS) == 1475


def test_what_does_not_fit_is_named(network: Dists, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no DISTS weights .*dists.npz.* --kind dists"):
        Dists.load(tmp_path)
    arrays = {n: np.broadcast_to(np.float32(0), s) for n, s in dists.expected_shapes().items()}
    del arrays["beta"]
    with pytest.raises(UsageError, match=r"DISTS: beta must have shape \(1475,\), got None"):
        Dists.from_arrays(arrays)
    x = jnp.zeros((1, 32, 31, 3))
    with pytest.raises(UsageError, match="DISTS needs sides of at least 32 px"):
        network(x, x)
