"""The device mesh: three named axes, any of which may be 1, over one slice or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from rcodec_jax.errors import UsageError

AXES = ("data", "fsdp", "tensor")
"""Copies of the model, shards of its parameters, shards of its single operations."""

AXIS_TYPES = (AxisType.Auto,) * len(AXES)
"""XLA decides on all shardings not given."""

BATCH_SPEC = PartitionSpec(("data", "fsdp"))
"""A batch is split over both: FSDP shards are data-parallel in everything but storage."""


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    slices: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """Makes the mesh that everything is placed on.

    Args:
      data: devices along the axis of copies, over all slices.
      fsdp: devices along the axis of parameter shards.
      tensor: devices along the axis of shards of single operations.
        At most one of the three may be -1: it takes what the others leave.
      slices: groups of devices with a fast network each and a slow one between them. The axis
        `data` is divided over them, outermost, so that only the sum of the gradients crosses the
        slow network. Only TPUs know their slice (what GPUs call so is their host); other devices
        are taken for slices of equal size in their order.
      devices: the devices to use; all of them if None. Fewer may be asked for by explicit sizes
        in a single process, and then the first ones are used.

    Returns:
      A mesh with axes `data`, `fsdp` and `tensor`.

    Raises:
      UsageError: the sizes do not fit the devices or their slices.
    """
    if devices is None:
        devices = jax.devices()
    shown = _shown(data, fsdp, tensor, slices)
    sizes = _checked([data, fsdp, tensor], slices, shown)
    if -1 in sizes:
        others = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = len(devices) // others
    needed = math.prod(sizes)
    whole = -1 in (data, fsdp, tensor) or jax.process_count() > 1
    if not 1 <= needed <= len(devices) or (whole and needed != len(devices)):
        raise UsageError(f"mesh {shown} does not fit {len(devices)} devices")
    if sizes[0] % slices:
        raise UsageError(
            f"mesh {shown}: expected a size of data that divides over {slices} slices, "
            f"got {sizes[0]}"
        )
    devices = devices[:needed]
    known = {
        getattr(device, "slice_index", None) if device.platform == "tpu" else None
        for device in devices
    }
    if None not in known and len(known) > 1 and len(known) != slices:
        raise UsageError(
            f"mesh {shown}: expected slices={len(known)}, as the devices are in {len(known)} "
            f"slices, got slices={slices}"
        )
    within = (sizes[0] // slices, *sizes[1:])
    # Splitting physical axes: fsdp=32 on a torus of 16x16 is half of one axis and all of the other.
    if slices == 1:
        array = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
    elif len(known) == slices:
        array = mesh_utils.create_hybrid_device_mesh(
            within, (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    else:
        array = np.asarray(devices, dtype=object).reshape(sizes)
    return Mesh(array, AXES, axis_types=AXIS_TYPES)


def abstract_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> AbstractMesh:
    """A mesh of any size without devices: enough to say how arrays would lie on it.

    Raises:
      UsageError: a size below 1.
    """
    sizes = [data, fsdp, tensor]
    if any(size < 1 for size in sizes):
        shown = _shown(data, fsdp, tensor, 1)
        raise UsageError(f"expected mesh sizes of at least 1 where there are no devices: {shown}")
    return AbstractMesh(tuple(sizes), AXES, axis_types=AXIS_TYPES)


def _checked(sizes: list[int], slices: int, shown: str) -> list[int]:
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1 or slices < 1:
        raise UsageError(f"expected mesh sizes of at least 1 and at most one -1, got {shown}")
    return sizes


def _shown(data: int, fsdp: int, tensor: int, slices: int) -> str:
    text = f"data={data}, fsdp={fsdp}, tensor={tensor}"
    return text if slices == 1 else f"{text}, slices={slices}"
