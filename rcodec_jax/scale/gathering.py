"""Parameters made whole for the forward pass, gradients put back where the parameters lie.

Left to itself, XLA's partitioner carries the split of a kernel over to the activations it meets:
batches are then gathered instead of kernels. Saying that kernels are whole while they are used,
and where their gradients belong, leaves it no such choice (ZeRO, Rajbhandari et al. 2020).
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def gathered(x: jax.Array, sharding: NamedSharding, axis: str, dtype: Any = None) -> jax.Array:
    """An array that is split over `axis`, whole on every device of that axis.

    Args:
      x: the array.
      sharding: how it lies; splits over other axes stay.
      axis: name of the mesh axis.
      dtype: cast to it before it travels; None for its own.

    Returns:
      The same values; the gradient is summed into the split of `sharding`.
    """
    dtype = x.dtype if dtype is None else dtype
    spec = PartitionSpec(*(_without(entry, axis) for entry in sharding.spec))
    if sharding.mesh.shape[axis] == 1 or spec == sharding.spec:
        return x
    whole = NamedSharding(sharding.mesh, spec)

    @jax.custom_vjp
    def gather(x: jax.Array) -> jax.Array:
        # Without the first constraint the cast would be done after the gathering, on all of it.
        cast = jax.lax.with_sharding_constraint(x.astype(dtype), sharding)
        return jax.lax.with_sharding_constraint(cast, whole)

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (jax.lax.with_sharding_constraint(gradient, sharding).astype(x.dtype),)

    gather.defvjp(lambda x: (gather(x), None), backward)
    return gather(x)


def _without(entry: Any, axis: str) -> Any:
    if isinstance(entry, tuple):
        return tuple(name for name in entry if name != axis) or None
    return None if entry == axis else entry
