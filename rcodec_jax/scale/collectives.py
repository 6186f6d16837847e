"""Collectives of a compiled program, read from its text: how many, of what size, among whom."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

import numpy as np

_BYTES = {
    "pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2,
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
    "f8e4m3fn": 1, "f8e5m2": 1, "token": 0,
}  # fmt: skip

_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_FUSED = "all-reduce-scatter"
"""Computations of this name hold an all-reduce of which each device keeps its part."""

_MENTIONED = re.compile(
    r"[ )][a-z\-]*(?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-[a-z]+)"
    r"(?:-start)?\("
)
"""An operation that may be a collective, however the rest of its line is written."""

_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^ +(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][a-z\-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_EXPLICIT = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" \{([^}]*)\}"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind in one step.

    Attributes:
      kind: "all-gather", "all-reduce", "reduce-scatter", "all-to-all" or "collective-permute".
      group: devices that take part together.
      slices: slices that they are in.
      count: how many there are.
      array_bytes: sum of their arrays, undivided.
    """

    kind: str
    group: int
    slices: int
    count: int
    array_bytes: int

    def sent_bytes(self) -> float:
        """What each device sends within its slice, at least (rings; Thakur et al. 2005)."""
        return self._share(self.group // self.slices) * self.array_bytes

    def sent_between_slices_bytes(self) -> float:
        """What each device sends to other slices, at least: its part of what its slice has."""
        return self._share(self.slices) * self.array_bytes / max(self.group // self.slices, 1)

    def _share(self, members: int) -> float:
        if members <= 1:
            return 0.0
        if self.kind == "collective-permute":
            return 1.0
        return (members - 1) / members * (2.0 if self.kind == "all-reduce" else 1.0)


def collectives(text: str, *, slices: int = 1) -> list[Collective]:
    """The collectives of a program.

    Args:
      text: the optimised HLO, as `Compiled.as_text()` gives it.
      slices: number of slices; partitions are divided over them in order.

    Returns:
      One entry for each kind and kind of group, the largest first. Loops count with their length
      where the compiler knows it; a collective's start and end are one.

    Raises:
      RuntimeError: a collective that cannot be read, or that nothing seems to run; it would be
        missing from a plan without a word.
    """
    partitions = int(_first(r"num_partitions=(\d+)", text) or 1)
    found: dict[tuple[str, int, int], list[int]] = {}
    read: set[str] = set()
    computations = _computations(text)
    for name, times in _repetitions(computations).items():
        for line in computations[name].lines:
            operation = _OPERATION.match(line)
            if operation is None:
                continue
            kind = operation[2].removesuffix("-start")
            if kind not in _KINDS:
                continue
            read.add(line)
            group, spread = _group(line, partitions, slices)
            size = _array_bytes(line, operation[1], started=operation[2].endswith("-start"))
            if kind == "reduce-scatter":  # the text shows the part that is kept
                size *= group
            elif kind == "all-reduce" and name.startswith(_FUSED):
                kind = "reduce-scatter"
            entry = found.setdefault((kind, group, spread), [0, 0])
            entry[0] += times
            entry[1] += times * size
    for line in text.splitlines():
        if _MENTIONED.search(line) and line not in read:
            raise _unread(line)
    rows = [
        Collective(kind, group, spread, count, size)
        for (kind, group, spread), (count, size) in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.array_bytes, row.kind, row.group))


@dataclasses.dataclass
class _Computation:
    lines: list[str]
    calls: list[tuple[str, int]]
    entry: bool


def _computations(text: str) -> dict[str, _Computation]:
    """Computations by name, with those that they call and how often."""
    found: dict[str, _Computation] = {}
    current: _Computation | None = None
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            current = found[header[2]] = _Computation([], [], header[1] is not None)
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.lines.append(line)
            if "=%" not in line and "computations={" not in line:
                continue
            trips = _TRIPS.search(line)
            times = int(trips[1]) if trips and " while(" in line else 1
            current.calls += [(name, times) for name in _CALLED.findall(line)]
            for branches in _BRANCHES.findall(line):
                current.calls += [(name.strip(" %"), 1) for name in branches.split(",")]
    return found


def _repetitions(computations: dict[str, _Computation]) -> dict[str, int]:
    """How often each computation runs in one run of the program."""
    counts = {name: int(one.entry) for name, one in computations.items()}
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in computations:
            return
        seen.add(name)
        for callee, _ in computations[name].calls:
            visit(callee)
        order.append(name)

    for name, one in computations.items():
        if one.entry:
            visit(name)
    for name in reversed(order):  # callers before what they call
        for callee, times in computations[name].calls:
            if callee in counts:
                counts[callee] += counts[name] * times
    return {name: count for name, count in counts.items() if count}


def _array_bytes(line: str, shapes: str, *, started: bool) -> int:
    """Bytes of the results in an operation's type."""
    if started and shapes.startswith("(("):  # (operands), (results), state
        shapes = shapes[2:].partition("(")[2].partition(")")[0]
        return sum(_sizes(line, shapes))
    sizes = list(_sizes(line, shapes))
    if started:  # operand, result, state; an all-reduce shows its result alone
        return max(sizes, default=0)
    return sum(sizes)


def _sizes(line: str, shapes: str) -> Iterable[int]:
    for dtype, extents in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", shapes)):
        if dtype not in _BYTES:
            raise _unread(line)
        yield _BYTES[dtype] * math.prod(int(n) for n in extents.split(",") if n)


def _group(line: str, partitions: int, slices: int) -> tuple[int, int]:
    """Members of a collective's first group, and the slices they are in."""
    members: list[int] = list(range(partitions))
    if found := _EXPLICIT.search(line):
        if "source_target_pairs" in found[0]:
            pairs = re.findall(r"\{(\d+),(\d+)\}", found[1])
            size = partitions // slices
            crossing = any(int(a) // size != int(b) // size for a, b in pairs)
            return (2, 2) if crossing else (2, 1)
        members = _numbers(found[1].partition("}")[0].strip("{"))
    elif found := _IOTA.search(line):
        members = list(_ids(found[3], found[4]).reshape(int(found[1]), int(found[2]))[0])
    elif found := _MESH.search(line):
        axes = re.findall(r"'([^']+)'=(\d+)", found[1])
        sizes = [int(size) for _, size in axes]
        ids = np.arange(math.prod(sizes)) if found[2] is None else _ids(found[2], found[3])
        chosen = {name.strip(" '") for name in found[4].split(",")}
        index = tuple(slice(None) if name in chosen else 0 for name, _ in axes)
        members = list(ids.reshape(sizes)[index].ravel())
    elif "replica_groups=" in line and "replica_groups={}" not in line:
        raise _unread(line)
    per_slice = max(partitions // slices, 1)
    return len(members), len({int(member) // per_slice for member in members})


def _unread(line: str) -> RuntimeError:
    return RuntimeError(f"cannot read a collective of the compiled program: {line.strip()}")


def _ids(extents: str, order: str | None) -> np.ndarray:
    shape = _numbers(extents)
    ids = np.arange(math.prod(shape)).reshape(shape)
    return ids if order is None else ids.transpose(_numbers(order))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip()]


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
