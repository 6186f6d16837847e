"""Scaled dot-product attention by the fastest path of the device at hand.

softmax(q k^T / sqrt(D)) v, scores and softmax in float32 whatever the inputs are.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from rcodec_jax.ops.platform import ANY, platform

ROWS = 512
"""Queries whose scores a CPU holds at a time."""

SMALL = 1 << 21
"""Scores in all, up to which a CPU computes them at once."""

BLOCKS = (512, 256, 128)
"""Queries and keys that the TPU kernel holds at a time: the first that divides their number."""

_split: contextvars.ContextVar[tuple[Mesh, PartitionSpec] | None] = contextvars.ContextVar(
    "_split", default=None
)


@contextlib.contextmanager
def rows_split(mesh: Mesh, rows: PartitionSpec) -> Iterator[None]:
    """While it lasts, programs are traced whose batches lie on a mesh, a part of the rows on each.

    A TPU's kernel has to be told: unlike XLA's own operations it is never split by the compiler.

    Args:
      mesh: of the program.
      rows: axes that the first dimension is split over.
    """
    token = _split.set((mesh, rows))
    try:
        yield
    finally:
        _split.reset(token)


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of q [B, N, H, D] onto k, v [B, M, H, D] -> [B, N, H, D], of q's dtype.

    On GPUs in half precision it is cuDNN's flash attention; on TPUs, in programs that say how rows
    are split, a kernel that keeps scores on the chip; on a CPU, where XLA would write out all
    scores and read them four times, a loop over heads and blocks of queries; elsewhere XLA's.
    Lengths that are symbols (`jax.export`) get XLA's everywhere, which any platform can run.
    """
    backend = platform()
    if not all(isinstance(size, int) for size in (*q.shape, k.shape[1])):
        backend = ANY  # the program may run elsewhere than where it is traced
    if backend == "cpu":
        return blocked_attention(q, k, v)
    if backend == "gpu" and _flash_takes(q):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    placed = _split.get()
    if backend == "tpu" and placed is not None and _block(q.shape[1], k.shape[1], q.shape[3]):
        mesh, rows = placed
        kernel = jax.shard_map(
            tiled_attention, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
        )
        return kernel(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def _block(queries: int, keys: int, features: int) -> int:
    """The block of a TPU's kernel; 0 where none divides both numbers, or heads are wide."""
    fitting = (size for size in BLOCKS if queries % size == keys % size == 0)
    return next(fitting, 0) if features <= 128 else 0


def tiled_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """As `attention`: the kernel for TPUs that comes with JAX, on one device.

    Lengths have to be multiples of the least of `BLOCKS`, features at most 128.
    """
    from jax.experimental.pallas.ops.tpu.flash_attention import BlockSizes, flash_attention

    size = _block(q.shape[1], k.shape[1], q.shape[3])
    names = [field.name for field in dataclasses.fields(BlockSizes) if field.name != "block_b"]
    sizes = BlockSizes(block_b=1, **dict.fromkeys(names, size))
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))  # [B, H, N, D]
    out: jax.Array = flash_attention(q, k, v, sm_scale=q.shape[-1] ** -0.5, block_sizes=sizes)
    return out.transpose(0, 2, 1, 3)


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
