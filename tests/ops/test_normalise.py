"""Group normalisation: flax's numbers, and better ones where the mean is large."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.ops.normalise import group_norm


def case(mean: float, spread: float = 1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(mean, spread, (2, 7, 5, 24)).astype(np.float32)
    scale, bias = rng.normal(1, 0.3, (2, 24)).astype(np.float32)
    return x, scale, bias


def exact(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, groups: int) -> np.ndarray:
    """In float64."""
    split = x.astype(np.float64).reshape(*x.shape[:3], groups, -1)
    mean = split.mean(axis=(1, 2, 4), keepdims=True)
    variance = np.square(split - mean).mean(axis=(1, 2, 4), keepdims=True)
    return ((split - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("groups", [1, 4, 24])
def test_equals_flax(groups: int) -> None:
    x, scale, bias = case(mean=0.5)
    flax = nn.GroupNorm(groups, epsilon=1e-5).apply({"params": {"scale": scale, "bias": bias}}, x)
    ours = group_norm(x, scale, bias, groups=groups, epsilon=1e-5)
    np.testing.assert_allclose(ours, flax, rtol=1e-5, atol=1e-5)


def test_a_large_mean_costs_no_digits() -> None:
    x, scale, bias = case(mean=1000.0, spread=0.1)
    ours = group_norm(x, scale, bias, groups=4, epsilon=1e-5)
    np.testing.assert_allclose(ours, exact(x, scale, bias, 4), atol=5e-3)


def test_constants_give_the_offset() -> None:
    bias = np.arange(8, dtype=np.float32)
    out = group_norm(
        jnp.full((1, 3, 3, 8), 7.0), jnp.ones(8), jnp.asarray(bias), groups=2, epsilon=1e-6
    )
    np.testing.assert_allclose(out, np.broadcast_to(bias, (1, 3, 3, 8)), atol=1e-6)


def test_statistics_of_half_precision_are_float32() -> None:
    x, scale, bias = case(mean=0.0)
    half = jnp.asarray(x, jnp.bfloat16)
    ours = group_norm(half, scale, bias, groups=4, epsilon=1e-5)
    assert ours.dtype == jnp.float32
    wanted = exact(np.asarray(half, np.float32), scale, bias, 4)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


def test_groups_divide_the_channels() -> None:
    x, scale, bias = case(mean=0.0)
    with pytest.raises(ValueError, match="in 5 groups of one size, got 24"):
        group_norm(x, scale, bias, groups=5, epsilon=1e-5)
