"""Folded keys and values of the constant context: the same output from fewer parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.nn.unet import UNet, fold_context

SHAPE = {
    "out_channels": 4,
    "channels": (8, 16),
    "layers": 1,
    "heads": (1, 2),
    "middle_heads": 2,
    "context_features": 12,
    "context_tokens": 7,
    "time_features": 16,
    "norm": "group",
    "groups": 4,
    "scale_shift": False,
}


def test_folded_equals_unfolded(filled) -> None:
    module, folded = UNet(**SHAPE), UNet(**SHAPE, folded=True)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 5, 4)), jnp.float32)
    inputs = (x, jnp.asarray([[3.0, 800.0]] * 2), jnp.zeros((2, 6, 5), jnp.int32))
    params = filled(module, *inputs)["params"]
    fewer = fold_context(params)
    wanted = jax.jit(module.apply)({"params": params}, *inputs)
    np.testing.assert_allclose(
        jax.jit(folded.apply)({"params": fewer}, *inputs), wanted, rtol=1e-5, atol=1e-5
    )
    # what folding gives is what the folded module declares
    declared = jax.eval_shape(folded.init, jax.random.key(0), *inputs)["params"]
    assert jax.tree.map(jnp.shape, fewer) == jax.tree.map(jnp.shape, declared)
    assert "context" in params and "to_k" in params["mid_block_attentions_0"]["attn2"]


def test_without_a_context_nothing_changes() -> None:
    params = {"conv_in": {"conv": {"kernel": np.zeros(1)}}}
    assert fold_context(params) == params
