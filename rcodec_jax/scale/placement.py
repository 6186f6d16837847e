"""Moving arrays between the host and the mesh, with one process or many."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcodec_jax.errors import UsageError
from rcodec_jax.scale.mesh import BATCH_SPEC


def local_rows(batch_size: int, mesh: Mesh) -> tuple[int, ...]:
    """Rows of a global batch that lie on this process's devices, ascending.

    Processes whose devices are shards of the same operations (the axis `tensor`) have the same
    rows, and where the topology orders devices otherwise than processes they need not be a run.

    Raises:
      UsageError: the batch does not divide over the devices.
    """
    mine, parts = _local_parts(mesh)
    if batch_size < 1 or batch_size % parts:
        raise UsageError(
            f"expected a batch that divides over {parts} devices, got {batch_size} rows"
        )
    rows = batch_size // parts
    return tuple(part * rows + row for part in mine for row in range(rows))


def global_batch(host_batch: Any, mesh: Mesh) -> Any:
    """Makes one global batch of what each process has loaded.

    Args:
      host_batch: pytree of NumPy arrays [b, ...]: the rows that `local_rows` names, in that order.
      mesh: from `make_mesh`.

    Returns:
      The same pytree of `jax.Array`, of all rows, split by BATCH_SPEC.

    Raises:
      UsageError: the rows do not divide evenly over this process's devices.
    """
    mine, parts = _local_parts(mesh)
    sharding = NamedSharding(mesh, BATCH_SPEC)

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        if not leaf.ndim or not leaf.shape[0] or leaf.shape[0] % len(mine):
            raise UsageError(
                f"expected a batch that divides over {len(mine)} devices, got shape "
                f"{list(leaf.shape)}"
            )
        rows = leaf.shape[0] // len(mine)

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            first = (index[0].start or 0) // rows if index else 0
            return leaf[mine.index(first) * rows :][:rows]

        return jax.make_array_from_callback((rows * parts, *leaf.shape[1:]), sharding, part)

    with jax.transfer_guard_host_to_device("allow"):  # what is asked for by name is no accident
        return jax.tree.map(put, host_batch)


def _local_parts(mesh: Mesh) -> tuple[list[int], int]:
    """Which of the equal parts of a batch lie on this process's devices, and how many there are."""
    parts = math.prod(mesh.shape[axis] for axis in BATCH_SPEC[0])
    where = NamedSharding(mesh, BATCH_SPEC).addressable_devices_indices_map((parts,))
    return sorted({index[0].start or 0 for index in where.values() if index}), parts


def place(values: Any, shardings: Any) -> Any:
    """Puts host arrays, whole and equal in every process, onto the mesh.

    Args:
      values: pytree of arrays.
      shardings: pytree of shardings with the same structure, or one sharding for all.

    Returns:
      The same pytree of `jax.Array`.
    """
    if isinstance(shardings, jax.sharding.Sharding):
        one = shardings
        shardings = jax.tree.map(lambda _: one, values)

    def put(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    with jax.transfer_guard_host_to_device("allow"):
        return jax.tree.map(put, values, shardings)


def replicate(values: Any, mesh: Mesh) -> Any:
    """Puts host arrays, equal in every process, whole onto every device of the mesh."""
    return place(values, NamedSharding(mesh, PartitionSpec()))


def fetch(values: Any) -> Any:
    """Copies arrays to the host as NumPy, whole.

    Raises:
      ValueError: an array is split over processes, so that this one has only a part.
    """

    def get(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            if not leaf.is_fully_replicated:
                raise ValueError(
                    f"expected an array that every process holds whole, got {leaf.sharding}"
                )
            leaf = leaf.addressable_data(0)
        return np.array(jax.device_get(leaf))

    return jax.tree.map(get, values)
