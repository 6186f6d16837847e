"""What a run is measured on: pictures it is not trained on, with the same maps and noise always.

A loss on random crops with random maps goes up and down with the luck of the draw; this one by the
model alone. The averaged parameters are measured, which are what gets frozen.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rcodec_jax import scale
from rcodec_jax.checkpoint import wait_for_all
from rcodec_jax.config.train import StageConfig
from rcodec_jax.data.pictures.sheet import captioned_sheet
from rcodec_jax.levels import CELL_PX
from rcodec_jax.metrics.decibels import psnr_db
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.trees import flatten, unflatten
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.train.input.heldout import Map, fixed_maps
from rcodec_jax.train.loop.measured import Measured
from rcodec_jax.train.step import statistics
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.losses import Batch, Perceptual, autoencoder_loss, codec_loss, draw_noise
from rcodec_jax.train.step.perceptual import load_perceptual
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.statistics import Stats

SHOWN = 4
_SEED = 0x7E57
_LEAST_ROWS = 4


class Validation:
    """Measures the state of a run.

    Args:
      setup: of the run.
      pictures: uint8 [N, S, S, 3], see `crops`.
    """

    def __init__(self, setup: Setup, pictures: np.ndarray) -> None:
        self._setup, self._pictures = setup, pictures
        count, side = pictures.shape[:2]
        self._maps = fixed_maps(setup.config.model.node_range, count, side // CELL_PX)
        devices = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
        self._rows = devices * -(-_LEAST_ROWS // devices)
        self._mine = np.array(scale.local_rows(self._rows, setup.mesh))
        # Pictures come again where they do not fill the devices.
        filled = -(-count // self._rows) * self._rows
        self._chunks = (np.arange(filled) % count).reshape(-1, self._rows)
        train = setup.config.train
        self._perceptual = load_perceptual(train) if train.lpips_dir else None
        self._program: Any = None
        self._done = 0
        self._stage = train.stages[0]

    def prepare(self, stage: StageConfig) -> float:
        """Compiles what measures a stage; returns the seconds that it took."""
        began = time.perf_counter()
        setup, self._stage = self._setup, stage
        program = jax.jit(
            functools.partial(_measured, setup, stage, self._perceptual),
            out_shardings=NamedSharding(setup.mesh, PartitionSpec()),
            compiler_options=compiler_options(setup.mesh.devices.flat[0].platform),
        )
        state, batch = setup.abstract_state, self._batch(self._maps[0], self._chunks[0])
        self._program = program.lower(state.averaged, state.stats, batch, np.int32(0)).compile()
        return time.perf_counter() - began

    def measure(self, state: TrainState) -> tuple[Measured, np.ndarray]:
        """Measures a state; all processes take part.

        Returns:
          The figures, and a sheet of the first pictures as each map decodes them, uint8 [H, W, 3].
        """
        assert self._program is not None, "prepare comes first"
        wait_for_all(f"validation {self._done}")
        self._done += 1
        began = time.perf_counter()
        by_map: dict[str, dict[str, float]] = {}
        shown = [[(picture, "original")] for picture in self._pictures[:SHOWN]]
        maps = [Map("autoencoder", self._maps[0].level_maps)]  # in whose stage maps do nothing
        for number, one in enumerate(maps if self._stage.kind == "autoencoder" else self._maps):
            rows = self._measure_map(one, number, state)
            by_map[one.name] = self._figures(rows, one.regions)
            for at, row in enumerate(shown):
                pixels = rows["decoded"][at]
                bits = rows.get("bits")
                rate = "" if bits is None else f" {bits[at] / pixels[..., 0].size:.2f} bpp"
                row.append((pixels, f"{one.name}{rate} {psnr_db(pixels, row[0][0]):.1f} dB"))
        loss = float(np.mean([figures["loss"] for figures in by_map.values()]))
        return Measured(loss, by_map, time.perf_counter() - began), captioned_sheet(shown)

    def _measure_map(self, maps: Map, number: int, state: TrainState) -> dict[str, np.ndarray]:
        """Of `_measured` under one map, whose number steers the noise: a row for each picture."""
        found = []
        for index, chunk in enumerate(self._chunks):
            batch, noise = self._batch(maps, chunk), np.int32(index * len(self._maps) + number)
            found.append(scale.fetch(self._program(state.averaged, state.stats, batch, noise)))
        count = len(self._pictures)
        rows = {name: np.concatenate([one[name] for one in found])[:count] for name in found[0]}
        return rows

    def _batch(self, maps: Map, chunk: np.ndarray) -> Batch:
        rows = chunk[self._mine]
        batch: Batch = scale.global_batch(
            {
                "image": self._pictures[rows],
                "level_map": np.stack([maps.level_maps[row].level_map for row in rows]),
                "nodes": np.stack([maps.level_maps[row].padded_nodes for row in rows]),
            },
            self._setup.mesh,
        )
        return batch

    def _figures(self, rows: dict[str, np.ndarray], regions: np.ndarray | None) -> dict[str, float]:
        """Means over the pictures of a map."""
        pairs = list(zip(rows["decoded"], self._pictures, strict=True))
        figures = {"loss": float(np.mean(rows["loss"]))}
        if "bits" in rows:
            figures["bpp"] = float(np.mean(rows["bits"])) / self._pictures[0, ..., 0].size
        figures["psnr"] = float(np.mean([psnr_db(*pair) for pair in pairs]))
        if "lpips" in rows:
            figures["lpips"] = float(np.mean(rows["lpips"]))
        if regions is not None:
            masks = np.repeat(np.repeat(regions, CELL_PX, 1), CELL_PX, 2)
            for name, where in (("psnr_inside", masks), ("psnr_outside", ~masks)):
                parts = [psnr_db(a, b, m) for (a, b), m in zip(pairs, where, strict=True)]
                figures[name] = float(np.mean(parts))
        return figures


def _measured(
    setup: Setup,
    stage: StageConfig,
    perceptual: Perceptual | None,
    averaged: Any,
    stats: Stats,
    batch: Batch,
    number: jax.Array,
) -> dict[str, jax.Array]:
    """A chunk of pictures: loss and bits [B], decoded uint8 [B, S, S, 3], lpips [B].

    The stage's loss is that of the chunk, in every row.
    """
    networks = setup.networks
    params = unflatten(setup.gather(flatten(averaged)))
    key = jax.random.fold_in(jax.random.key(_SEED), number)
    batch = batch | draw_noise(stage, key, batch["level_map"], networks.config)
    found: dict[str, jax.Array] = {}
    given = networks, params, stats, batch, stage.loss, perceptual
    if stage.kind == "autoencoder":
        loss, seen = autoencoder_loss(*given)
    else:
        loss, seen = codec_loss(*given, joint=stage.kind == "joint", refine=stage.refine)
    latent, hints, decoded = seen.raw, None, seen.decoded
    if seen.coded is not None:
        parts = (seen.coded.bits_y, seen.coded.bits_z)
        found["bits"] = sum((jnp.sum(bits, axis=(1, 2, 3)) for bits in parts), jnp.zeros(()))
        latent, hints = statistics.unscale(seen.coded.clean, stats), seen.coded.hints
    decoded = networks.decode(params, latent, hints) if decoded is None else decoded
    found["loss"] = jnp.full(len(batch["image"]), loss)
    found["decoded"] = to_bytes(decoded)
    if perceptual is not None:
        found["lpips"] = perceptual(to_signed(batch["image"]), to_signed(found["decoded"]))
    return found
