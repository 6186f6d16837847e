"""What a jitted step would need on devices that are not here: compiled for them, never run."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from rcodec_jax.scale.collectives import Collective, collectives

_OPTIONS = {"tpu": {"exec_time_optimization_effort": -1.0}}
"""Compilation in minutes instead of tens of them; placement and collectives are the same kinds."""

_USED = re.compile(r"[Uu]sed ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step, seen from one device.

    Attributes:
      argument_bytes: state and batch, as they are laid out.
      temporary_bytes: everything between: activations, gradients, gathered parameters.
      program_bytes: the program itself.
      total_bytes: all of it, outputs that take the place of no argument included.
      traffic_bytes: read from and written to the device's memory, by the compiler's estimate,
        which counts what a loop repeats once; 0 where it makes none (GPUs).
      collectives: see `Collective`.
      seconds: that compilation took.
    """

    argument_bytes: int
    temporary_bytes: int
    program_bytes: int
    total_bytes: int
    traffic_bytes: float
    collectives: tuple[Collective, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that the compiler could not fit: what it needed of what there is, in bytes."""

    total_bytes: int
    available_bytes: int
    seconds: float


def compile_step(step: Any, *shapes: Any, slices: int = 1) -> Compiled | TooLarge:
    """Compiles a jitted step for the devices of its shardings.

    Args:
      step: what `jax.jit` returned.
      *shapes: its arguments as `jax.ShapeDtypeStruct`.
      slices: number of slices that the devices are in.
    """
    start = time.monotonic()
    lowered = step.lower(*shapes)
    devices = jax.tree.leaves(shapes[0])[0].sharding.device_set
    platform = next(iter(devices)).platform
    try:
        compiled = lowered.compile(compiler_options=_OPTIONS.get(platform, {}))
    except jax.errors.JaxRuntimeError as error:
        used = _USED.search(str(error))
        if used is None:
            raise
        needed, available = (float(used[i]) * _UNITS[used[i + 1]] for i in (1, 3))
        return TooLarge(int(needed), int(available), time.monotonic() - start)
    seconds = time.monotonic() - start
    memory = compiled.memory_analysis()
    analysis = compiled.cost_analysis() or {}
    program = memory.generated_code_size_in_bytes
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        program_bytes=program,
        total_bytes=kept + memory.temp_size_in_bytes + program,
        traffic_bytes=float(analysis.get("bytes accessed", 0.0)),
        collectives=tuple(collectives(compiled.as_text(), slices=slices)),
        seconds=seconds,
    )
