"""Options for compiling networks: only where they are known, and only of speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.model import compiling
from rcodec_jax.nn.blocks import Attention, ResnetBlock


def test_who_sets_the_flag_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert compiling.compiler_options() == {}


def test_nothing_to_choose_on_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling.compiler_options("tpu") == {}, "a program for a topology that is not here"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.compiler_options() == {}


def test_a_jaxlib_that_does_not_know_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(compiling, "_OPTIONS", {"xla_cpu_no_such_option": "x"})
    compiling._is_known.cache_clear()
    try:
        assert compiling.compiler_options() == {}
    finally:
        compiling._is_known.cache_clear()


def test_results_are_the_same(filled_block) -> None:
    call, inputs = filled_block
    plain = jax.jit(call)(*inputs)
    ours = jax.jit(call, compiler_options=compiling.compiler_options())(*inputs)
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.fixture
def filled_block():
    """A block with convolutions, normalisation and attention, and its inputs."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 9, 7, 16)), jnp.float32)
    block = ResnetBlock(8, "group", 4)
    attend = Attention(2, 4, 8)
    tokens = jnp.zeros((1, 63, 8))

    def fill(shape: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(rng.normal(0, 0.3, shape.shape), jnp.float32)

    variables = [
        jax.tree.map(fill, jax.eval_shape(module.init, jax.random.key(0), value))
        for module, value in ((block, x), (attend, tokens))
    ]

    def call(variables, x):
        h = block.apply(variables[0], x)
        return attend.apply(variables[1], h.reshape(1, 63, 8))

    return call, (variables, x)
