"""Sharding rules: path pattern -> how to split, applied to any pytree of shapes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcodec_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Largest:
    """Split the largest dimension that divides evenly over one mesh axis.

    Attributes:
      axis: name of the mesh axis.
      min_elements: smaller arrays are replicated, as gathering them would cost more than it saves.
    """

    axis: str
    min_elements: int = 1 << 14

    def spec(self, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
        """The split of an array of this shape; empty (replicated) where none is possible."""
        size = mesh.shape[self.axis]
        dividing = [index for index, extent in enumerate(shape) if extent % size == 0]
        if size == 1 or not dividing or math.prod(shape) < self.min_elements:
            return PartitionSpec()
        # Of equals the last: output channels, which later rules for `tensor` would also take.
        best = max(dividing, key=lambda index: (shape[index], index))
        return PartitionSpec(*[None] * best, self.axis)


Rules: TypeAlias = Sequence[tuple[str, "PartitionSpec | Largest"]]
"""(regular expression searched in the path, split); the first match counts, no match replicates.

A path joins keys, field names and list positions: `params/encoder/conv_in/kernel`. Moments of the
optimiser and averages end in the path of their parameter, so that one rule serves all.
"""

FSDP_RULES: Rules = ((".*", Largest("fsdp")),)
"""Parameters, moments and averages split over `fsdp`; nothing at all when that axis is 1."""


def shardings_for(shapes: Any, mesh: Mesh, rules: Rules = FSDP_RULES) -> Any:
    """Says for every leaf of a pytree how it lies on a mesh.

    A dimension that does not divide evenly over its mesh axes is replicated instead, and so is an
    array with fewer dimensions than its rule names (a count beside moments, say).

    Args:
      shapes: pytree of anything with a shape: arrays, or what `jax.eval_shape` returns.
      mesh: from `make_mesh`.
      rules: see `Rules`.

    Returns:
      A pytree of `NamedSharding` with the same structure.

    Raises:
      UsageError: a rule names an axis that the mesh does not have, or is no regular expression.
    """
    compiled = [(_compiled(pattern), split) for pattern, split in rules]
    for pattern, split in compiled:
        for axis in _axes(split):
            if axis not in mesh.shape:
                raise UsageError(
                    f"sharding rule {pattern.pattern!r}: expected axes of "
                    f"{', '.join(map(str, mesh.shape))}, got {axis!r}"
                )

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, split in compiled:
            if pattern.search(name):
                if isinstance(split, Largest):
                    return NamedSharding(mesh, split.spec(leaf.shape, mesh))
                return NamedSharding(mesh, _fitted(split, leaf.shape, mesh))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, shapes)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"sharding rule {pattern!r} is not a regular expression: {error}"
        ) from error


def _axes(split: PartitionSpec | Largest) -> list[str]:
    if isinstance(split, Largest):
        return [split.axis]
    return [axis for entry in split for axis in _entry_axes(entry)]


def _entry_axes(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def _fitted(spec: PartitionSpec, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """A spec without the splits that an array of this shape cannot take."""
    if len(spec) > len(shape):
        return PartitionSpec()
    entries = []
    for entry, extent in zip(spec, shape, strict=False):
        parts = math.prod(mesh.shape[axis] for axis in _entry_axes(entry))
        entries.append(entry if parts > 1 and extent % parts == 0 else None)
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)
