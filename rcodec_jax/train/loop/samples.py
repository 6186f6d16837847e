"""Sample pictures of a run: crops of a training batch beside their decodes at three rates."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcodec_jax import scale
from rcodec_jax.checkpoint import wait_for_all
from rcodec_jax.data import write_image
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.forward import Noise, code_latent
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.statistics import Stats

COUNT = 4

SMALLEST_PX = HYPER_STRIDE * CELL_PX
"""Sides of crops are cut to a multiple of it, which the whole model needs."""


def write_samples(
    workdir: Path,
    step: int,
    networks: Networks,
    state: TrainState,
    image: jax.Array,
    mesh: Mesh,
) -> None:
    """Writes samples/STEP.png: original, then fine, middle and coarse; one row a picture.

    All processes take part, since each may hold a part of the state; the first one writes.

    Args:
      workdir: folder of the run.
      step: names the file.
      networks, state: the model; its averaged parameters are used.
      image: uint8 [B, H, W, 3], on the mesh.
      mesh: of all devices.
    """
    low, high = networks.config.node_range
    nodes = [round(low + share * (high - low)) for share in (0.2, 0.5, 0.8)]
    whole = NamedSharding(mesh, PartitionSpec())
    given = state.averaged, state.stats, image, np.array(nodes, np.int32)
    sheet = _compiled(networks, whole, *given)(*given)
    if jax.process_index() == 0:
        folder = workdir / "samples"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"{step:07d}.png", scale.fetch(sheet))


_programs: dict[Any, Any] = {}


def _compiled(networks: Networks, whole: NamedSharding, *given: Any) -> Any:
    """The program that makes a sheet; all processes have it before one of them runs it."""
    arrays = jax.tree.leaves(given[:-1])  # the nodes are always alike
    placed = tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in arrays)
    key = networks, whole, placed
    if key not in _programs:
        _programs[key] = _sheet.lower(networks, whole, *given).compile(
            compiler_options=compiler_options(whole.mesh.devices.flat[0].platform)
        )
        wait_for_all("compiled samples")
    return _programs[key]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sheet(
    networks: Networks,
    whole: NamedSharding,
    params: Any,
    stats: Stats,
    image: jax.Array,
    nodes: jax.Array,
) -> jax.Array:
    """Pictures uint8 [B, H, W, 3] and their decodes at each of `nodes` as one picture."""
    side = image.shape[1] // SMALLEST_PX * SMALLEST_PX  # an autoencoder's stage needs less of crops
    image = image[:COUNT, :side, :side]
    raw, _ = networks.encode(params, to_signed(image))
    decode = functools.partial(_decoded, networks, params, stats, raw)
    columns = [image, *jax.lax.map(decode, nodes)]  # compiled once, not for each node
    rows = jnp.concatenate([jnp.concatenate(list(column)) for column in columns], axis=1)
    return jax.lax.with_sharding_constraint(rows, whole)


def _decoded(
    networks: Networks, params: Any, stats: Stats, raw: jax.Array, node: jax.Array
) -> jax.Array:
    """What the encoder gave [B, h, w, C], as it comes back at a node: uint8 [B, 8h, 8w, 3]."""
    level_map, nodes = jnp.zeros(raw.shape[:3], jnp.int32), jnp.full((len(raw), 1), node)
    levels = LevelInputs.of(level_map, nodes)
    noise = Noise.draw(jax.random.key(0), raw.shape, networks.config.hyper.hyper_channels)
    y = statistics.scale(raw, stats)
    coded = code_latent(networks, params, y, levels, noise=noise, trim=None)
    decoded = networks.decode(params, statistics.unscale(coded.clean, stats), coded.hints)
    return to_bytes(decoded)
