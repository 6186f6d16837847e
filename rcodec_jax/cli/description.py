"""`rcodec train --describe` in words and figures."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from rcodec_jax.cli import output

if TYPE_CHECKING:
    from rcodec_jax.train.plan.describe import Description

LARGEST = 10
"""Parameters listed one by one."""


def figures(described: Description) -> dict[str, Any]:
    """The description as plain data, all parameters listed."""
    return {
        "parameters": {
            **{part.name: part.parameters for part in described.parts},
            "all": described.parameters,
        },
        "mesh": described.mesh,
        "device_bytes": {
            "parameters": sum(part.parameter_bytes for part in described.parts),
            "average": sum(part.average_bytes for part in described.parts),
            "optimizer": sum(part.optimizer_bytes for part in described.parts),
            "other": described.other_bytes,
            "all": described.state_bytes,
        },
        "parts": [dataclasses.asdict(part) for part in described.parts],
        "tensors": [dataclasses.asdict(tensor) for tensor in described.tensors],
        "stages": [dataclasses.asdict(stage) for stage in described.stages],
        "total_flops": described.total_flops,
    }


def in_words(
    described: Description, name: str, steps: int, timing: tuple[str, float, float] | None = None
) -> str:
    """The description as tables; `timing` is a chip's name, its peak in FLOP/s, and a share."""
    devices = math.prod(described.mesh.values())
    axes = ", ".join(f"{axis} {size}" for axis, size in described.mesh.items())
    parts = output.table(
        ("part", "parameters", "per device: weights", "average", "optimiser", "total"),
        [
            *((part.name, f"{part.parameters:,}", *_held(part)) for part in described.parts),
            (
                "total",
                f"{described.parameters:,}",
                *(
                    output.size_in_words(sum(getattr(part, field) for part in described.parts))
                    for field in ("parameter_bytes", "average_bytes", "optimizer_bytes")
                ),
                output.size_in_words(described.state_bytes),
            ),
        ],
    )
    tensors = output.table(
        ("largest parameters", "shape", "sharding", "per device"),
        [
            (
                tensor.path,
                "x".join(map(str, tensor.shape)),
                split_in_words(tensor.split),
                output.size_in_words(tensor.device_bytes),
            )
            for tensor in described.tensors[:LARGEST]
        ],
    )
    stages = output.table(
        ("stage", "steps", "batch", "crop", "input", "TFLOP/step", "GFLOP/picture"),
        [
            (
                stage.kind,
                f"{stage.steps:,}",
                str(stage.batch_size),
                f"{stage.crop_px} px",
                stage.input,
                f"{stage.flops / 1e12:,.3f}",
                f"{stage.flops / stage.batch_size / 1e9:,.1f}",
            )
            for stage in described.stages
        ],
    )
    head = (
        f"{name}: {output.counted(steps, 'step')}; mesh {axes}: {output.counted(devices, 'device')}"
    )
    lines = [head, parts, tensors, stages]
    total = f"{described.total_flops:.3g} FLOP in total"
    if timing is not None:
        chip, peak, share = timing
        total += (
            f": {described.hours(peak, share):,.1f} hours at {share:.0%} of the peak of {devices} "
            f"x {chip} ({peak / 1e12:,.0f} TFLOP/s each)"
        )
    lines.append(total)
    left_out = sorted({term for stage in described.stages for term in stage.without})
    if left_out:
        lines.append(f"Not counted: {', '.join(left_out)}.")
    return "\n\n".join(lines)


def _held(part: Any) -> tuple[str, ...]:
    sizes = (part.parameter_bytes, part.average_bytes, part.optimizer_bytes)
    return tuple(map(output.size_in_words, (*sizes, sum(sizes))))


def split_in_words(split: tuple[Any, ...]) -> str:
    """The mesh axes of each dimension: `-,-,fsdp,tensor`; `replicated` for none."""
    if not any(split):
        return "replicated"
    return ",".join(
        "+".join(entry) if isinstance(entry, (tuple, list)) else entry or "-" for entry in split
    )
