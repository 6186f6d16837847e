"""What a run computes with: networks, optimiser, mesh, and how the state lies on it."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcodec_jax import scale
from rcodec_jax.config.train import Config, StageConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import Networks
from rcodec_jax.model.trees import Flat, flatten
from rcodec_jax.ops.attention import rows_split
from rcodec_jax.ops.platform import ANY, traced_for
from rcodec_jax.train.step.accumulation import Gradient
from rcodec_jax.train.step.losses import Batch, Perceptual
from rcodec_jax.train.step.optimizer import make_optimizer
from rcodec_jax.train.step.state import TrainState, first_state, init_state
from rcodec_jax.train.step.step import make_gradient, make_step

_ALWAYS_FLOAT32 = re.compile(r"^hyper_|^(encoder|decoder)/linear/")
"""Parameters of what is computed in float32 in every run."""


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """The device side of a run; making one allocates nothing.

    Attributes:
      config: the run.
      networks: its model.
      optimizer: its optimiser.
      mesh: its devices.
      shapes: the training state as `jax.ShapeDtypeStruct`.
      shardings: how each array of the state lies on the mesh.
    """

    config: Config
    networks: Networks
    optimizer: optax.GradientTransformation
    mesh: Mesh
    shapes: TrainState
    shardings: TrainState

    @classmethod
    def of(cls, config: Config, mesh: Mesh | None = None) -> Setup:
        """The set-up of a run on a mesh, the one that the configuration asks for if None."""
        if mesh is None:
            axes = config.train.mesh
            mesh = scale.make_mesh(axes.data, axes.fsdp, axes.tensor, slices=axes.slices)
        train = config.train
        networks = Networks(config.model, jnp.dtype(train.dtype), remat=train.remat)
        optimizer = make_optimizer(config.train)
        shapes = jax.eval_shape(lambda: init_state(networks, optimizer, config.train))
        shardings = scale.shardings_for(shapes, mesh, scale.RULES, parameters=shapes.params)
        return cls(config, networks, optimizer, mesh, shapes, shardings)

    @property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state, to restore it into or to compile with."""
        return jax.tree.map(
            lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p),
            self.shapes,
            self.shardings,
        )

    def initial_state(self) -> TrainState:
        """The state at step 0, made where it lies.

        In two programs: the one that takes long to compile depends on the model alone.
        """

        seed = self.config.train.seed

        def draw() -> Any:
            return self.networks.init(jax.random.key(seed))

        def initial(params: Any) -> TrainState:
            return first_state(params, self.networks, self.optimizer, self.config.train)

        params = jax.jit(draw, out_shardings=self.shardings.params)()
        return jax.jit(initial, out_shardings=self.shardings, donate_argnums=0)(params)

    @property
    def peak_flops(self) -> float | None:
        """FLOP/s of all devices together, as the configuration has it for one."""
        peak = self.config.train.peak_flops
        return None if peak is None else peak * self.mesh.devices.size

    def gather(self, flat: Flat) -> Flat:
        """Parameters by path, made whole over the axis `fsdp` in the dtype of the computation.

        What the networks use in float32 whatever that is, travels in float32.
        """
        shardings = flatten(self.shardings.params)
        dtype = jnp.dtype(self.config.train.dtype)

        def gathered(path: str, leaf: jax.Array) -> jax.Array:
            cast = None if _ALWAYS_FLOAT32.search(path) else dtype
            return scale.gathered(leaf, shardings[path], "fsdp", cast)

        return {path: gathered(path, leaf) for path, leaf in flat.items()}

    def gradient(
        self, stage: StageConfig, perceptual: Perceptual | None = None
    ) -> Callable[[TrainState, Batch], Gradient]:
        """What the steps of a stage move along; see `make_gradient`."""
        return make_gradient(self.networks, self.config.train, stage, perceptual, self.gather)

    def check_batch(self, stage: StageConfig) -> None:
        """Raises UsageError: the batch does not divide into micro-batches over the devices."""
        rows = math.prod(self.mesh.shape[axis] for axis in ("data", "fsdp")) * stage.accumulate
        if stage.batch_size % rows:
            raise UsageError(
                f"expected a batch_size that is a multiple of {rows} (devices of the axes data and "
                f"fsdp x accumulate {stage.accumulate}), got {stage.batch_size}"
            )

    def step(
        self,
        stage: StageConfig,
        first_step: int,
        perceptual: Perceptual | None = None,
        *,
        timed: bool = False,
    ) -> Any:
        """The jitted step of a stage, (state, batch) -> (state, metrics); the state is donated.

        If `timed`, a third argument is the position in the schedule; see `make_step`.

        Raises:
          UsageError: the stage's batch does not divide into micro-batches over the devices.
        """
        self.check_batch(stage)
        specs = [scale.BATCH_SPEC, PartitionSpec()][: 2 if timed else 1]
        places = [NamedSharding(self.mesh, spec) for spec in specs]
        return jax.jit(
            self._make_step(stage, first_step, perceptual),
            in_shardings=(self.shardings, *places),
            out_shardings=(self.shardings, None),
            donate_argnums=0,
            compiler_options=compiler_options(self.mesh.devices.flat[0].platform),
        )

    def steps(
        self,
        stage: StageConfig,
        first_step: int,
        perceptual: Perceptual | None,
        batch_at: Callable[[Any, jax.Array], Batch],
        count: int,
    ) -> Any:
        """Several steps of a stage as one jitted program, for accelerators.

        Args:
          stage, first_step, perceptual: as in `step`.
          batch_at: (held, index) -> batch, see `ResidentBatches.at`.
          count: number of steps.

        Returns:
          (state, {"held", "first"}, position=None) -> (state, metrics): sums over the steps,
          but "finite", which says whether all were. The state is donated.
        """
        self.check_batch(stage)
        step = self._make_step(stage, first_step, perceptual)

        def run(state: TrainState, data: Any, *position: jax.Array) -> Any:
            def one(state: TrainState, index: jax.Array) -> Any:
                return step(state, batch_at(data["held"], index), *position)

            state, metrics = jax.lax.scan(one, state, data["first"] + jnp.arange(count))
            sums = {name: jnp.sum(value) for name, value in metrics.items() if name != "finite"}
            return state, sums | {"finite": jnp.all(metrics["finite"])}

        return jax.jit(
            run,
            out_shardings=(self.shardings, None),
            donate_argnums=0,
            compiler_options=compiler_options(self.mesh.devices.flat[0].platform),
        )

    def _make_step(
        self, stage: StageConfig, first_step: int, perceptual: Perceptual | None
    ) -> Callable[..., Any]:
        """`make_step`, which knows when it is traced how its rows are split."""
        given = self.networks, self.optimizer, self.config.train, stage, first_step, perceptual
        step = make_step(*given, self.gather)

        @functools.wraps(step)
        def on_mesh(*inputs: Any) -> Any:
            with rows_split(self.mesh, scale.BATCH_SPEC):
                return step(*inputs)

        return on_mesh

    def compiled(self, program: Any, *inputs: Any) -> tuple[Any, float]:
        """A program of steps compiled for inputs like these, and the seconds that it took."""
        began = time.perf_counter()
        lowered = program.lower(self.abstract_state, *inputs)
        return lowered.compile(), time.perf_counter() - began

    def compiled_step(
        self, stage: StageConfig, first_step: int, perceptual: Perceptual | None, batch: Batch
    ) -> tuple[Any, float]:
        """The compiled step for batches like `batch`, and the seconds that compiling it took."""
        return self.compiled(self.step(stage, first_step, perceptual), batch)

    def step_flops(
        self,
        stage: StageConfig,
        batch: Batch | dict[str, jax.ShapeDtypeStruct],
        perceptual: Perceptual | None = None,
    ) -> scale.Flops:
        """FLOPs of a step on all devices, without what is computed twice to save memory."""
        networks = Networks(self.config.model)
        counted = make_gradient(networks, self.config.train, stage, perceptual)
        with traced_for(ANY):  # a CPU's blocked attention computes scores twice
            return scale.count_flops(counted, self.shapes, batch)
