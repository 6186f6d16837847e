"""The device mesh: three named axes, any of which may be 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

from rcodec_jax.errors import UsageError

AXES = ("data", "fsdp", "tensor")
"""Copies of the model, shards of its parameters, shards of its single operations."""

BATCH_SPEC = PartitionSpec(("data", "fsdp"))
"""A batch is split over both: FSDP shards are data-parallel in everything but storage."""


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Makes the mesh that everything is placed on.

    Args:
      data: devices along the axis of copies.
      fsdp: devices along the axis of parameter shards.
      tensor: devices along the axis of shards of single operations.
        At most one of the three may be -1: it takes what the others leave.
      devices: the devices to use; all of them if None. Fewer may be asked for by explicit sizes
        in a single process, and then the first ones are used.

    Returns:
      A mesh with axes `data`, `fsdp` and `tensor`; XLA decides on all shardings not given.

    Raises:
      UsageError: the sizes do not fit the devices.
    """
    if devices is None:
        devices = jax.devices()
    sizes = [data, fsdp, tensor]
    shown = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise UsageError(f"expected mesh sizes of at least 1 and at most one -1, got {shown}")
    if -1 in sizes:
        others = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = len(devices) // others
    needed = math.prod(sizes)
    whole = -1 in (data, fsdp, tensor) or jax.process_count() > 1
    if not 1 <= needed <= len(devices) or (whole and needed != len(devices)):
        raise UsageError(f"mesh {shown} does not fit {len(devices)} devices")
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:needed]
    )
