"""Sharding rules: path pattern -> how to split, applied to any pytree of shapes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from rcodec_jax.errors import UsageError

AnyMesh: TypeAlias = "Mesh | AbstractMesh"


@dataclasses.dataclass(frozen=True)
class Largest:
    """Split the largest dimension that divides evenly over one mesh axis; none if none does.

    Attributes:
      axis: name of the mesh axis.
      beside: splits of other dimensions, which are never taken; they hold for any size.
      min_elements: smaller arrays are not split, as gathering them would cost more than it saves.
    """

    axis: str
    beside: PartitionSpec = PartitionSpec()
    min_elements: int = 1 << 14


Rules: TypeAlias = Sequence[tuple[str, "PartitionSpec | Largest"]]
"""(regular expression searched in the path, split); the first match counts, no match replicates.

A path joins keys, field names and list positions: `unet/conv_in/conv/kernel`. A `PartitionSpec` is
a demand, and an array that cannot meet it is an error; `Largest` takes what it can get.
"""


def shardings_for(shapes: Any, mesh: AnyMesh, rules: Rules, *, parameters: Any = None) -> Any:
    """Says for every leaf of a pytree how it lies on a mesh.

    Args:
      shapes: pytree of anything with a shape: arrays, or what `jax.eval_shape` returns.
      mesh: from `make_mesh` or `abstract_mesh`.
      rules: see `Rules`.
      parameters: pytree of the model's parameters. If given, the rules are for its paths, and
        whatever in `shapes` has a path that ends in that of a parameter lies as the parameter
        does: moments of an optimiser, averages, and factored moments, which lack one of its
        dimensions. The rest (counts, say) is replicated.

    Returns:
      A pytree of `NamedSharding` with the same structure.

    Raises:
      UsageError: a rule names an axis that the mesh does not have, or is no regular expression; or
        a rule cannot be kept for an array, which the message names: a mesh axis used twice, too
        few dimensions, or a dimension that does not divide over its axes.
    """
    split = _Splitter(mesh, rules)
    parameters = shapes if parameters is None else parameters
    known = {
        path: (tuple(leaf.shape), split(path, leaf.shape)) for path, leaf in _with_paths(parameters)
    }

    def following(path: str, leaf: Any) -> NamedSharding:
        parts = path.split("/")
        for start in range(len(parts)):
            if (found := known.get("/".join(parts[start:]))) is not None:
                return NamedSharding(mesh, _followed(tuple(leaf.shape), *found, parts[:start]))
        return NamedSharding(mesh, PartitionSpec())

    return _by_path(shapes, following)


class _Splitter:
    """Rules bound to a mesh: (path, shape) -> PartitionSpec."""

    def __init__(self, mesh: AnyMesh, rules: Rules) -> None:
        self._sizes = dict(mesh.shape)
        self._rules = [(_compiled(pattern), split) for pattern, split in rules]
        for pattern, split in self._rules:
            for axis in _axes(split):
                if axis not in self._sizes:
                    raise UsageError(
                        f"sharding rule {pattern.pattern!r}: expected axes of "
                        f"{', '.join(self._sizes)}, got {axis!r}"
                    )

    def __call__(self, path: str, shape: Sequence[int]) -> PartitionSpec:
        for pattern, split in self._rules:
            if pattern.search(path):
                where = f"{path}: sharding rule {pattern.pattern!r}"
                explicit = split.beside if isinstance(split, Largest) else split
                entries = self._explicit(explicit, shape, where)
                if isinstance(split, Largest):
                    self._add_largest(entries, split, shape, where)
                return _spec(entries)
        return PartitionSpec()

    def _explicit(self, spec: PartitionSpec, shape: Sequence[int], where: str) -> list[Any]:
        """The spec's entries, one for each dimension; axes of one device split nothing."""
        if len(spec) > len(shape):
            raise UsageError(
                f"{where}: expected an array of at least {len(spec)} dimensions, got {list(shape)}"
            )
        entries: list[Any] = [None] * len(shape)
        taken: dict[str, int] = {}
        for index, entry in enumerate(spec):
            axes = _entry_axes(entry)
            for axis in axes:
                self._take(axis, index, taken, where)
            parts = math.prod(self._sizes[axis] for axis in axes)
            if shape[index] % parts:
                raise UsageError(
                    f"{where}: expected dimension {index} to divide over "
                    f"{' x '.join(f'{axis}={self._sizes[axis]}' for axis in axes)}, "
                    f"got {shape[index]} of {list(shape)}"
                )
            entries[index] = entry if parts > 1 else None
        return entries

    def _add_largest(
        self, entries: list[Any], split: Largest, shape: Sequence[int], where: str
    ) -> None:
        taken = {a: i for i, entry in enumerate(split.beside) for a in _entry_axes(entry)}
        size = self._sizes[split.axis]
        free = [
            index
            for index, extent in enumerate(shape)
            if extent % size == 0 and (index >= len(split.beside) or split.beside[index] is None)
        ]
        if split.axis in taken:
            self._take(split.axis, max(free, default=0), taken, where)
        if size > 1 and free and math.prod(shape) >= split.min_elements:
            # Of equals the last: output channels.
            entries[max(free, key=lambda index: (shape[index], index))] = split.axis

    @staticmethod
    def _take(axis: str, index: int, taken: dict[str, int], where: str) -> None:
        if axis in taken:
            raise UsageError(
                f"{where}: expected a mesh axis to split one dimension, got {axis!r} for "
                f"dimensions {taken[axis]} and {index}"
            )
        taken[axis] = index


def _followed(
    shape: tuple[int, ...], of: tuple[int, ...], spec: PartitionSpec, owner: Sequence[str]
) -> PartitionSpec:
    """The split of what belongs to a parameter of shape `of`: all of it, or all but one dimension.

    Where two dimensions are equal, optax names the factored moment without the last `v_row` and
    that without the first `v_col`.
    """
    entries = [*spec, *[None] * (len(of) - len(spec))]
    if shape == of:
        return spec
    dropped = [index for index in range(len(of)) if of[:index] + of[index + 1 :] == shape]
    if not dropped:
        return PartitionSpec()
    index = dropped[0] if "v_col" in owner else dropped[-1]
    return _spec(entries[:index] + entries[index + 1 :])


def _spec(entries: list[Any]) -> PartitionSpec:
    while entries and entries[-1] is None:
        entries = entries[:-1]
    return PartitionSpec(*entries)


def _with_paths(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(_name(path), leaf) for path, leaf in leaves]


def _by_path(tree: Any, function: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(_name(path), leaf), tree)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"sharding rule {pattern!r} is not a regular expression: {error}"
        ) from error


def _axes(split: PartitionSpec | Largest) -> list[str]:
    spec = split.beside if isinstance(split, Largest) else split
    axes = [axis for entry in spec for axis in _entry_axes(entry)]
    return [*axes, split.axis] if isinstance(split, Largest) else axes


def _entry_axes(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)
