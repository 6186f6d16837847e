"""Convolution on CPUs: the same as XLA's, with its gradients, wherever it is taken."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.ops import winograd
from rcodec_jax.ops.convolution import convolve
from rcodec_jax.ops.platform import traced_for

LAYOUT = ("NHWC", "HWIO", "NHWC")


def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT, precision="highest"
    )


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(f, x: jax.Array, kernel: jax.Array, slope: jax.Array):
    """Values of a convolution, and their gradients along a slope."""
    value, back = jax.vjp(f, x, kernel)
    return value, back(slope)


@pytest.mark.parametrize(
    "shape", [(1, 4, 4, 1, 1), (1, 4, 12, 3, 5), (2, 8, 4, 5, 3), (3, 20, 16, 7, 2)]
)
def test_winograd_is_the_convolution_and_its_gradients(shape) -> None:
    batch, height, width, cin, cout = shape
    x, kernel = drawn(batch, height, width, cin), drawn(3, 3, cin, cout, seed=1)
    slope = drawn(batch, height, width, cout, seed=2)
    found, expected = (
        jax.tree.leaves(with_gradients(f, x, kernel, slope)) for f in (winograd.convolve, direct)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(theirs)))
        )


def test_a_delta_gives_its_input() -> None:
    x = drawn(1, 8, 8, 2)
    kernel = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
    np.testing.assert_allclose(jax.jit(winograd.convolve)(x, kernel), x, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "platform", "taken"),
    [
        ((8, 16, 16, 32), (3, 3, 32, 32), jnp.float32, "cpu", True),
        ((8, 16, 16, 32), (3, 3, 32, 32), jnp.float32, "tpu", False),
        ((8, 16, 16, 32), (3, 3, 32, 32), jnp.float32, "any", False),
        ((8, 16, 16, 32), (3, 3, 32, 32), jnp.bfloat16, "cpu", False),
        ((8, 16, 18, 32), (3, 3, 32, 32), jnp.float32, "cpu", False),
        ((8, 16, 16, 32), (3, 3, 32, 3), jnp.float32, "cpu", False),
        ((8, 16, 16, 32), (1, 1, 32, 32), jnp.float32, "cpu", False),
        ((8, 8, 8, 32), (3, 3, 32, 32), jnp.float32, "cpu", False),
        ((1, 192, 128, 32), (3, 3, 32, 32), jnp.float32, "cpu", False),
    ],
)
def test_where_it_is_taken(shape, kernel, dtype, platform, taken) -> None:
    pad = kernel[0] // 2

    def run(x: jax.Array, k: jax.Array) -> jax.Array:
        return convolve(x, k, (1, 1), ((pad, pad),) * 2, dimension_numbers=LAYOUT)

    with traced_for(platform):
        program = jax.make_jaxpr(run)(jnp.zeros(shape, dtype), jnp.zeros(kernel, dtype))
    assert ("conv_general_dilated" not in str(program)) == taken


def test_strides_and_other_paddings_are_xlas() -> None:
    x, kernel = drawn(8, 16, 16, 32), drawn(3, 3, 32, 32)
    for strides, padding in (((2, 2), ((1, 1), (1, 1))), ((1, 1), ((0, 0), (0, 0)))):
        ours = convolve(x, kernel, strides, padding, dimension_numbers=LAYOUT)
        theirs = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)
        np.testing.assert_array_equal(ours, theirs)
