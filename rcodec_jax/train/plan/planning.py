"""A plan of a stage: its real step, compiled for devices that are not here."""

from __future__ import annotations

import dataclasses
import math

import jax
from jax.sharding import NamedSharding

from rcodec_jax import scale
from rcodec_jax.config.train import Config, MeshConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.ops.platform import traced_for
from rcodec_jax.train.plan.describe import stage_batch, stage_work, state_parts, without_perceptual
from rcodec_jax.train.step.build import Setup


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step of a stage needs of each chip, and how fast it could be.

    Attributes:
      topology, chip, chips: name of the topology, what each of its chips has, and their number.
      mesh: sizes of the axes.
      stage: kind of the stage.
      input: "pixels" or "latents".
      crop_px, batch_size: of the global batch.
      accumulate: micro-batches that it is divided into.
      without: parts of the loss that were left out, as they need weights from outside.
      parameter_bytes, average_bytes, optimizer_bytes: of the state, on a chip.
      memory: of the compiled step, on a chip.
      model_flops: of a step on all chips, without what is computed twice to save memory.
      flops: with it.
      traffic_bytes: see `step_traffic`; 0 where the compiler makes no estimate.
      bound: the roofline; None for a step that the compiler could not fit.
    """

    topology: str
    chip: scale.Chip
    chips: int
    mesh: dict[str, int]
    stage: str
    input: str
    crop_px: int
    batch_size: int
    accumulate: int
    without: tuple[str, ...]
    parameter_bytes: int
    average_bytes: int
    optimizer_bytes: int
    memory: scale.Compiled | scale.TooLarge
    model_flops: int
    flops: int
    traffic_bytes: float
    bound: scale.Roofline | None

    @property
    def fits(self) -> bool:
        """Whether the step fits into the memory of a chip."""
        return self.bound is not None and self.memory.total_bytes <= self.chip.memory_bytes

    @property
    def images_per_second(self) -> float | None:
        """At most so many pictures a second, over all chips; None if it does not compile."""
        return self.batch_size / self.bound.step if self.bound else None

    @property
    def utilisation(self) -> float | None:
        """The model-FLOPs utilisation of that many pictures, 0..1."""
        if self.bound is None:
            return None
        return self.model_flops / (self.bound.step * self.chips * self.chip.peak_flops)


def step_traffic(counted_bytes: float, updated_bytes: float, accumulate: int) -> float:
    """What a step reads from and writes to a chip's memory, in bytes.

    Compilers count the body of a loop once, however often it runs: here, one micro-batch. Average
    and optimiser are certainly outside the loop, read and written once; all the rest is taken to be
    inside, so that the estimate is rather too high than too low.

    Args:
      counted_bytes: the compiler's figure.
      updated_bytes: average and optimiser of the state, on a chip.
      accumulate: micro-batches.
    """
    once = min(2 * updated_bytes, counted_bytes)
    return once + accumulate * (counted_bytes - once)


def make_plan(
    config: Config,
    stage_index: int,
    *,
    topology: str,
    mesh: MeshConfig,
) -> Plan:
    """Compiles the step of a stage for a topology.

    Args:
      config: the run.
      stage_index: which of its stages.
      topology: such as "v5e:16x16"; with `mesh.slices` of them.
      mesh: sizes of the axes.

    Raises:
      UsageError: a topology that is not known, libtpu is missing, or sizes that do not fit.
    """
    chip, devices = scale.topology(topology, mesh.slices)
    sizes = {axis: getattr(mesh, axis) for axis in scale.AXES}
    if -1 not in sizes.values() and math.prod(sizes.values()) != len(devices):
        shown = ",".join(f"{axis}={size}" for axis, size in sizes.items())
        raise UsageError(
            f"mesh {shown}: expected the {len(devices)} chips of {mesh.slices} x {topology}, got "
            f"{math.prod(sizes.values())}"
        )
    made = scale.make_mesh(**sizes, slices=mesh.slices, devices=devices)
    stage, without = without_perceptual(config.train.stages[stage_index])
    setup = Setup.of(config, made)
    step = setup.step(stage, 0)
    batch = stage_batch(config, stage)
    sharding = NamedSharding(made, scale.BATCH_SPEC)
    placed = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for name, leaf in batch.items()
    }
    with traced_for(devices[0].platform):
        compiled = scale.compile_step(step, setup.abstract_state, placed, slices=mesh.slices)
        flops = scale.count_flops(setup.gradient(stage), setup.shapes, batch).total
    parts, _ = state_parts(setup)
    bound, traffic = None, 0.0
    if isinstance(compiled, scale.Compiled):
        updated = sum(part.average_bytes + part.optimizer_bytes for part in parts)
        traffic = step_traffic(compiled.traffic_bytes, updated, stage.accumulate)
        bound = scale.roofline(
            chip,
            flops=flops / len(devices),
            traffic_bytes=traffic,
            collectives=compiled.collectives,
        )
    return Plan(
        topology=topology if mesh.slices == 1 else f"{mesh.slices} x {topology}",
        chip=chip,
        chips=len(devices),
        mesh={str(axis): int(size) for axis, size in made.shape.items()},
        stage=stage.kind,
        input="latents" if stage.latents else "pixels",
        crop_px=stage.crop_px,
        batch_size=stage.batch_size,
        accumulate=stage.accumulate,
        without=without,
        parameter_bytes=sum(part.parameter_bytes for part in parts),
        average_bytes=sum(part.average_bytes for part in parts),
        optimizer_bytes=sum(part.optimizer_bytes for part in parts),
        memory=compiled,
        model_flops=stage_work(setup, stage).flops,
        flops=flops,
        traffic_bytes=traffic,
        bound=bound,
    )
