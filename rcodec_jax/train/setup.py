"""What a run computes with: networks, optimiser, mesh, and how the state lies on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding

from rcodec_jax import scale
from rcodec_jax.codec.networks import Networks
from rcodec_jax.config.train import Config, StageConfig
from rcodec_jax.train.losses import Perceptual
from rcodec_jax.train.state import TrainState, init_state, make_optimizer
from rcodec_jax.train.step import make_step


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
            mesh = scale.make_mesh(axes.data, axes.fsdp, axes.tensor)
        networks = Networks(config.model)
        optimizer = make_optimizer(config.train)
        shapes = jax.eval_shape(lambda: init_state(networks, optimizer, config.train.seed))
        return cls(config, networks, optimizer, mesh, shapes, scale.shardings_for(shapes, mesh))

    @property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state, to restore it into or to compile with."""
        return jax.tree.map(
            lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p),
            self.shapes,
            self.shardings,
        )

    def initial_state(self) -> TrainState:
        """The state at step 0, made where it lies."""

        def initial() -> TrainState:
            return init_state(self.networks, self.optimizer, self.config.train.seed)

        return jax.jit(initial, out_shardings=self.shardings)()

    def step(
        self, stage: StageConfig, first_step: int, perceptual: Perceptual | None = None
    ) -> Any:
        """The jitted step of a stage, (state, batch) -> (state, metrics); the state is donated."""
        train = self.config.train
        return jax.jit(
            make_step(self.networks, self.optimizer, train, stage, first_step, perceptual),
            in_shardings=(self.shardings, NamedSharding(self.mesh, scale.BATCH_SPEC)),
            out_shardings=(self.shardings, None),
            donate_argnums=0,
        )
