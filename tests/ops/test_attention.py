"""Attention: every path gives the plain formula, with gradients, whatever the lengths."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.tpu import force_tpu_interpret_mode
from jax.sharding import Mesh, PartitionSpec

from rcodec_jax.ops import attention as module
from rcodec_jax.ops.attention import attention, blocked_attention, rows_split
from rcodec_jax.ops.platform import traced_for


def inputs(batch: int, queries: int, keys: int, heads: int, features: int, scale: float = 1.0):
    rng = np.random.default_rng(0)
    shapes = [(batch, n, heads, features) for n in (queries, keys, keys)]
    return [jnp.asarray(rng.normal(0, scale, shape), jnp.float32) for shape in shapes]


def plain(q, k, v) -> np.ndarray:
    """The formula in float64."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    scores = np.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhnm,bmhd->bnhd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("path", ["at once", "in blocks"])
@pytest.mark.parametrize(
    "shape", [(1, 24, 24, 2, 8), (2, 25, 7, 3, 4), (1, 17, 17, 1, 16), (1, 3, 40, 2, 8)]
)
def test_equals_the_plain_formula(
    path: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 1 << 30 if path == "at once" else 0)
    q, k, v = inputs(*shape)
    out = blocked_attention(q, k, v, rows=8)
    np.testing.assert_allclose(out, plain(q, k, v), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attention(q, k, v), plain(q, k, v), rtol=1e-5, atol=1e-6)


def test_gradients_equal_those_of_jax_nn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    q, k, v = inputs(2, 10, 7, 2, 4)
    probe = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)

    def loss(path):
        return lambda q, k, v: jnp.sum(path(q, k, v) * probe)

    ours = jax.grad(loss(lambda q, k, v: blocked_attention(q, k, v, rows=4)), (0, 1, 2))(q, k, v)
    theirs = jax.grad(loss(jax.nn.dot_product_attention), (0, 1, 2))(q, k, v)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_large_scores_stay_finite() -> None:
    q, k, v = inputs(1, 16, 16, 1, 8, scale=1e3)
    out = blocked_attention(q, k, v, rows=4)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, plain(q, k, v), rtol=1e-3, atol=1e-2)


def test_half_precision_keeps_its_dtype_and_sums_in_float32() -> None:
    q, k, v = (a.astype(jnp.bfloat16) for a in inputs(1, 600, 600, 1, 8))
    out = blocked_attention(q, k, jnp.ones_like(v), rows=100)
    assert out.dtype == jnp.bfloat16
    # 600 weights that sum to 1: in bfloat16 the sum would be off by percents
    np.testing.assert_allclose(np.asarray(out, np.float32), 1.0, atol=4e-3)


def test_memory_is_that_of_one_block() -> None:
    shape = jax.ShapeDtypeStruct((1, 4096, 4, 8), jnp.float32)
    whole = 4 * 4096**2 * 4
    compiled = jax.jit(blocked_attention).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < whole / 10


def test_the_kernel_for_tpus_equals_the_plain_formula_split_over_devices() -> None:
    """Interpreted; that it compiles for TPUs is tested with plans, where libtpu is."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    q, k, v = inputs(2, 128, 256, 1, 8)
    probe = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        with traced_for("tpu"), rows_split(mesh, PartitionSpec("data")):
            out = attention(q, k, v)
        return jnp.sum(out * probe), out

    with force_tpu_interpret_mode():
        ours, out = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
    np.testing.assert_allclose(out, plain(q, k, v), rtol=1e-5, atol=1e-5)

    def reference(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.dot_product_attention(q, k, v) * probe)

    for mine, other in zip(ours, jax.grad(reference, (0, 1, 2))(q, k, v), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("queries", "keys", "block"), [(4096, 4096, 512), (256, 256, 256), (64, 64, 0), (4096, 77, 0)]
)
def test_the_kernel_for_tpus_is_for_whole_blocks(queries: int, keys: int, block: int) -> None:
    """In Stable Diffusion: the UNet's self-attention down to 16x16, not 8x8, nor onto a text, nor
    the autoencoder's single head of 512."""
    assert module._block(queries, keys, 64) == block
    assert module._block(queries, keys, 512) == 0


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs RCODEC_TEST_PLATFORM=cuda")
def test_flash_attention_equals_the_plain_formula() -> None:
    q, k, v = (a.astype(jnp.bfloat16) for a in inputs(1, 256, 77, 2, 64))
    np.testing.assert_allclose(
        np.asarray(attention(q, k, v), np.float32), plain(q, k, v), atol=0.03
    )


def test_flash_attention_is_for_what_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        compute_capability = "9.0"

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    q = jnp.zeros((1, 4, 1, 64), jnp.bfloat16)
    assert module._flash_takes(q)
    assert not module._flash_takes(q.astype(jnp.float32))
    assert not module._flash_takes(jnp.zeros((1, 4, 1, 512), jnp.bfloat16))
    assert not module._flash_takes(jnp.zeros((1, 4, 1, 20), jnp.bfloat16))
    monkeypatch.setattr(Device, "compute_capability", "7.5")
    assert not module._flash_takes(q)
    monkeypatch.setattr(Device, "compute_capability", "gfx942")
    assert not module._flash_takes(q)
