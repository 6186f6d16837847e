"""Rounding and clipping: exact forwards, useful gradients backwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.ops.rounding import clip_straight_through, round_half_up, round_straight_through


def test_ties_go_up() -> None:
    x = jnp.asarray([-1.5, -0.5, 0.5, 1.5, 2.49, -2.51])
    np.testing.assert_array_equal(np.asarray(round_half_up(x)), [-1, 0, 1, 2, 2, -3])


def test_straight_through_rounds_and_passes_the_gradient() -> None:
    x = jnp.linspace(-3, 3, 50)
    np.testing.assert_array_equal(
        np.asarray(round_straight_through(x)), np.asarray(round_half_up(x))
    )
    weight = jnp.arange(50.0)
    gradient = jax.grad(lambda x: jnp.sum(weight * round_straight_through(x)))(x)
    np.testing.assert_array_equal(np.asarray(gradient), np.asarray(weight))


def test_clip_keeps_only_gradients_that_lead_back() -> None:
    x = jnp.asarray([-2.0, -1.0, 0.3, 1.0, 2.0])
    np.testing.assert_array_equal(
        np.asarray(clip_straight_through(x, -1.0, 1.0)), np.clip(np.asarray(x), -1, 1)
    )
    for sign, expected in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [-1, -1, -1, -1, 0])):
        # descent moves against the gradient: above the range only a positive one helps
        gradient = jax.grad(lambda x, s=sign: s * jnp.sum(clip_straight_through(x, -1.0, 1.0)))(x)
        np.testing.assert_array_equal(np.asarray(gradient), np.array(expected, np.float32))


def test_a_parameter_outside_comes_back() -> None:
    def loss(x):
        return jnp.square(clip_straight_through(x, 0.0, 1.0) - 0.5)

    x = jnp.asarray(3.0)
    for _ in range(100):
        x = x - 0.1 * jax.grad(loss)(x)
    assert abs(float(x) - 0.5) < 0.01
