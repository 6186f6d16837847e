"""The autoencoder: shapes for every layout, and what a cell of it depends on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.nn.autoencoder import Decoder, Encoder
from rcodec_jax.nn.blocks import Norm

LAYOUTS = {
    "stable diffusion": {"channels": (4, 8, 8, 8), "layers": 2, "patch": 1, "norm": "group",
                         "groups": 4, "attention": True, "quant_conv": True},
    "tiny": {"channels": (4, 8), "layers": 1, "patch": 4, "norm": "channel", "groups": 1,
             "attention": False, "quant_conv": False},
    "nano": {"channels": (8,), "layers": 1, "patch": 8, "norm": "channel", "groups": 1,
             "attention": False, "quant_conv": False},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_become_an_eighth_and_come_back(name: str) -> None:
    settings = {"latent_channels": 5} | LAYOUTS[name]
    encoder, decoder = Encoder(**settings), Decoder(**settings)
    image = jnp.zeros((2, 24, 40, 3))

    def both(key):
        params = encoder.init(key, image)
        mean, log_variance = encoder.apply(params, image)
        back = decoder.init_with_output(key, mean)[0]
        return mean, log_variance, back, params

    mean, log_variance, back, params = jax.eval_shape(both, jax.random.key(0))
    assert mean.shape == log_variance.shape == (2, 3, 5, 5)
    assert back.shape == image.shape and back.dtype == jnp.float32
    names = set(params["params"])
    assert ("quant_conv" in names) == (name == "stable diffusion")
    assert ("attn" in params["params"]["mid_block"]) == (name == "stable diffusion")


def test_it_runs_and_the_variance_is_bounded(filled) -> None:
    settings = {"latent_channels": 3} | LAYOUTS["stable diffusion"]
    encoder = Encoder(**settings)
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 16, 24, 3)), jnp.float32)

    mean, log_variance = jax.jit(encoder.apply)(filled(encoder, image, scale=5.0), image)
    assert np.isfinite(np.asarray(mean)).all()
    assert float(log_variance.min()) >= -30 and float(log_variance.max()) <= 20


def test_channel_norm_looks_at_one_cell_only() -> None:
    norm = Norm("channel")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 6)), jnp.float32)
    params = norm.init(jax.random.key(0), x)
    before = norm.apply(params, x)
    after = norm.apply(params, x.at[0, 1, 2].set(100.0))
    changed = np.abs(np.asarray(after - before)).max((0, 3)) > 0
    assert changed[1, 2] and changed.sum() == 1


def test_group_norm_is_that_of_the_formula() -> None:
    norm = Norm("group", groups=2, epsilon=1e-6)
    x = np.random.default_rng(0).normal(2, 3, (2, 4, 5, 6))
    params = norm.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    grouped = x.reshape(2, 20, 2, 3)
    mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    found = norm.apply(params, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-4)


def test_small_models_have_a_bounded_reach(filled) -> None:
    """What makes tiles possible: a pixel far away changes nothing."""
    settings = {"latent_channels": 3} | LAYOUTS["nano"]
    encoder, decoder = Encoder(**settings), Decoder(**settings)
    image = jnp.zeros((1, 8, 8 * 48, 3))
    to_latent = filled(encoder, image)
    to_picture = filled(decoder, jnp.zeros((1, 1, 48, 3)))

    @jax.jit
    def run(image):
        latent = encoder.apply(to_latent, image)[0]
        return latent, decoder.apply(to_picture, latent)

    first, second = run(image), run(image.at[:, :, :8].set(1.0))
    # 3x3 convolutions in a row: 8 in the encoder, 10 more in the decoder
    for a, b, reach in zip(first, second, (8, 18), strict=True):
        columns = np.asarray(jnp.abs(a - b)).max((0, 1, 3))
        cell = columns.size // 48
        assert columns[0] > 0 and np.all(columns[(reach + 1) * cell :] == 0)
