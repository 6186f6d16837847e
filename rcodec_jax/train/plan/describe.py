"""What a run would be on a mesh of any size: parameters, where they lie, bytes, FLOPs.

Nothing is allocated and no device is touched.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from rcodec_jax import scale
from rcodec_jax.config.train import Config, MeshConfig, StageConfig
from rcodec_jax.levels import CELL_PX, MAX_LEVELS
from rcodec_jax.model.networks import PARTS
from rcodec_jax.ops.platform import ANY, traced_for
from rcodec_jax.train.step.build import Setup


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the model.

    Attributes:
      name: its key in the parameters.
      parameters: their number, over all devices.
      parameter_bytes, average_bytes, optimizer_bytes: what one device holds of the parameters, of
        their running average and of the optimiser's state.
    """

    name: str
    parameters: int
    parameter_bytes: int
    average_bytes: int
    optimizer_bytes: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A parameter: path, shape, split of its dimensions, bytes of one device's share."""

    path: str
    shape: tuple[int, ...]
    split: tuple[Any, ...]
    device_bytes: int


@dataclasses.dataclass(frozen=True)
class StageWork:
    """What a step of a stage computes.

    Attributes:
      kind, batch_size, crop_px: of the stage.
      input: "pixels" or "latents".
      flops: of a step on all devices, without what is computed twice to save memory.
      without: parts of the loss that are not counted, as their weights are not in the recipe.
      steps: that the run takes in the stage.
    """

    kind: str
    batch_size: int
    crop_px: int
    input: str
    flops: int
    without: tuple[str, ...] = ()
    steps: int = 0


@dataclasses.dataclass(frozen=True)
class Description:
    """A run on a mesh.

    Attributes:
      mesh: size of each axis.
      parts: of the model.
      tensors: its parameters, those that take most of a device first.
      other_bytes: what else of the state one device holds: statistics, counts.
      stages: in order.
    """

    mesh: dict[str, int]
    parts: tuple[Part, ...]
    tensors: tuple[Tensor, ...]
    other_bytes: int
    stages: tuple[StageWork, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters in all."""
        return sum(part.parameters for part in self.parts)

    @property
    def total_flops(self) -> int:
        """FLOPs of the whole run on all devices; 0 where they were not counted."""
        return sum(stage.steps * stage.flops for stage in self.stages)

    def hours(self, peak_flops: float, share: float) -> float:
        """How long the run's FLOPs take.

        Args:
          peak_flops: of one device, in FLOP/s.
          share: of the peak that is reached, above 0 and at most 1.
        """
        devices = math.prod(self.mesh.values())
        return self.total_flops / (devices * peak_flops * share) / 3600

    @property
    def state_bytes(self) -> int:
        """What one device holds of the training state."""
        held = sum(
            part.parameter_bytes + part.average_bytes + part.optimizer_bytes for part in self.parts
        )
        return held + self.other_bytes


def describe(config: Config, mesh: MeshConfig | None = None, *, flops: bool = True) -> Description:
    """Describes a run.

    Args:
      config: the run.
      mesh: sizes of the axes, that of the run if None. An axis of -1 counts as 1: how many devices
        there will be is not known here.
      flops: count the operations of every stage, which takes seconds for a large model.

    Raises:
      UsageError: a rule of sharding that a parameter cannot keep, or a setting that is no good.
    """
    axes = config.train.mesh if mesh is None else mesh
    sizes = {axis: max(getattr(axes, axis), 1) for axis in scale.AXES}
    with traced_for(ANY):  # or attention would ask which device is here
        # Nothing is placed, so that a mesh without devices serves.
        setup = Setup.of(config, cast(Mesh, scale.abstract_mesh(**sizes)))
        train = config.train
        work = tuple(
            dataclasses.replace(
                stage_work(setup, stage), steps=max(0, min(stage.steps, train.total_steps - first))
            )
            for stage, first in zip(train.stages, train.first_steps, strict=True)
            if flops
        )
    parts, other = state_parts(setup)
    return Description(sizes, parts, _tensors(setup), other, work)


def state_parts(setup: Setup) -> tuple[tuple[Part, ...], int]:
    """The bytes of the training state on one device, by part of the model, and the rest."""
    held: dict[tuple[str, str], int] = {}
    other = 0
    for path, leaf, sharding in _leaves(setup.shapes, setup.shardings):
        field, _, below = path.partition("/")
        part = next((key for key in below.split("/") if key in PARTS), None)
        size = _device_bytes(leaf, sharding)
        if part is None:
            other += size
        else:
            held[field, part] = held.get((field, part), 0) + size
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in setup.shapes.params.items()
    }
    parts = tuple(
        Part(
            name, counts[name], *(held.get((field, name), 0) for field in ("params", "ema", "opt"))
        )
        for name in counts
    )
    return parts, other


def stage_batch(config: Config, stage: StageConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """A stage's global batch, as shapes."""
    rows, side = stage.batch_size, stage.crop_px
    cells = side // CELL_PX
    batch = {
        "level_map": jax.ShapeDtypeStruct((rows, cells, cells), jnp.uint8),
        "nodes": jax.ShapeDtypeStruct((rows, MAX_LEVELS), jnp.int32),
    }
    if stage.latents:
        shape = (rows, cells, cells, config.model.latent_channels)
        return batch | {"latent": jax.ShapeDtypeStruct(shape, jnp.float16)}
    return batch | {"image": jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)}


def stage_work(setup: Setup, stage: StageConfig) -> StageWork:
    """Counts the operations of a stage's steps."""
    counted, without = without_perceptual(stage)
    flops = setup.step_flops(counted, stage_batch(setup.config, counted))
    return StageWork(
        kind=stage.kind,
        batch_size=stage.batch_size,
        crop_px=stage.crop_px,
        input="latents" if stage.latents else "pixels",
        flops=flops.total,
        without=without,
    )


def without_perceptual(stage: StageConfig) -> tuple[StageConfig, tuple[str, ...]]:
    """A stage whose loss needs no weights from outside, and the names of what was left out."""
    if not stage.loss.lpips:
        return stage, ()
    loss = dataclasses.replace(stage.loss, lpips=0.0)
    return dataclasses.replace(stage, loss=loss), ("lpips",)


def _tensors(setup: Setup) -> tuple[Tensor, ...]:
    tensors = [
        Tensor(path, tuple(leaf.shape), tuple(sharding.spec), _device_bytes(leaf, sharding))
        for path, leaf, sharding in _leaves(setup.shapes.params, setup.shardings.params)
    ]
    return tuple(sorted(tensors, key=lambda tensor: (-tensor.device_bytes, tensor.path)))


def _leaves(shapes: Any, shardings: Any) -> list[tuple[str, Any, NamedSharding]]:
    paths = jax.tree_util.tree_flatten_with_path(shapes)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    return list(zip(names, leaves, jax.tree.leaves(shardings), strict=True))


def _device_bytes(leaf: Any, sharding: NamedSharding) -> int:
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
