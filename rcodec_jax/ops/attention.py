"""Scaled dot-product attention by the fastest path of the device at hand.

softmax(q k^T / sqrt(D)) v, scores and softmax in float32 whatever the inputs are.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp

ROWS = 512
"""Queries whose scores a CPU holds at a time."""

SMALL = 1 << 21
"""Scores in all, up to which a CPU computes them at once."""

_traced_for: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "_traced_for", default=None
)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """While it lasts, programs are traced for another platform than this process runs on.

    Args:
      platform: "cpu", "gpu" or "tpu"; "any" for plain attention, which computes nothing twice.
    """
    token = _traced_for.set(platform)
    try:
        yield
    finally:
        _traced_for.reset(token)


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of q [B, N, H, D] onto k, v [B, M, H, D] -> [B, N, H, D], of q's dtype.

    On GPUs in half precision it is cuDNN's flash attention; on a CPU, where XLA would write out all
    scores and read them four times, a loop over heads and blocks of queries; elsewhere XLA's.
    Lengths that are symbols (`jax.export`) get XLA's everywhere, which any platform can run.
    """
    backend = _traced_for.get() or jax.default_backend()
    if not all(isinstance(size, int) for size in (*q.shape, k.shape[1])):
        backend = "any"  # the program may run elsewhere than where it is traced
    if backend == "cpu":
        return blocked_attention(q, k, v)
    if backend == "gpu" and _flash_takes(q):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def _flash_takes(q: jax.Array) -> bool:
    """Whether cuDNN's kernel takes these: half precision, narrow heads, an Ampere or later."""
    if q.dtype not in (jnp.bfloat16, jnp.float16) or q.shape[-1] % 8 or q.shape[-1] > 128:
        return False
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", "0")  # "8.0"; AMD's are named "gfx..."
    return capability.split(".")[0].isdigit() and int(capability.split(".")[0]) >= 8


def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, *, rows: int = ROWS) -> jax.Array:
    """As `attention`: `rows` queries of one head at a time where there are many scores.

    Memory is that of [rows, M] scores instead of [B, H, N, M]; a gradient computes them again.
    """
    batch, queries, heads, features = q.shape
    keys = k.shape[1]
    scaled = (q.astype(jnp.float32) * features**-0.5).astype(q.dtype)
    scaled = scaled.transpose(0, 2, 1, 3)  # [B, H, N, D]
    k = k.transpose(0, 2, 3, 1)  # [B, H, D, M]
    v = v.transpose(0, 2, 1, 3)  # [B, H, M, D]
    if batch * heads * queries * keys <= SMALL:
        return _attend(scaled, k, v).transpose(0, 2, 1, 3)

    blocks = -(-queries // rows)
    rows = -(-queries // blocks)  # even blocks, so that little is padding
    scaled = jnp.pad(scaled, ((0, 0), (0, 0), (0, blocks * rows - queries), (0, 0)))
    scaled = scaled.reshape(batch * heads, blocks, rows, features)

    def head(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = inputs
        return jax.lax.map(jax.checkpoint(lambda block: _attend(block, k, v)), q)

    k, v = k.reshape(batch * heads, features, keys), v.reshape(batch * heads, keys, features)
    out = jax.lax.map(head, (scaled, k, v))  # [B*H, blocks, rows, D]
    out = out.reshape(batch, heads, blocks * rows, features)[:, :, :queries]
    return out.transpose(0, 2, 1, 3)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """q [..., N, D], k [..., D, M], v [..., M, D] -> [..., N, D]; divides last, over D not M."""
    scores = jnp.matmul(q, k, preferred_element_type=jnp.float32)
    # The largest score only keeps exp in range: the result does not depend on it, nor a gradient.
    top = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (out / total).astype(q.dtype)
