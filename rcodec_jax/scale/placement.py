"""Moving arrays between the host and the mesh, with one process or many."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcodec_jax.errors import UsageError
from rcodec_jax.scale.mesh import BATCH_SPEC


def global_batch(host_batch: Any, mesh: Mesh, spec: PartitionSpec = BATCH_SPEC) -> Any:
    """Makes one global batch of what each process has loaded.

    Args:
      host_batch: pytree of NumPy arrays [b, ...]: this process's share of the batch.
      mesh: from `make_mesh`.
      spec: how the leading axes lie on the mesh.

    Returns:
      The same pytree of `jax.Array` [b * processes, ...].

    Raises:
      UsageError: the batch does not divide evenly over the devices.
    """
    sharding = NamedSharding(mesh, spec)
    entry = spec[0] if len(spec) else None
    axes = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
    parts = math.prod(mesh.shape[axis] for axis in axes)
    processes = jax.process_count() if parts > 1 else 1

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        total = leaf.shape[0] * processes if leaf.ndim else 0
        if total == 0 or total % parts:
            raise UsageError(
                f"expected a batch that divides over {parts} devices, got shape "
                f"{list(leaf.shape)} in each of {processes} process(es)"
            )
        return jax.make_array_from_process_local_data(sharding, leaf)

    with jax.transfer_guard_host_to_device("allow"):  # what is asked for by name is no accident
        return jax.tree.map(put, host_batch)


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
