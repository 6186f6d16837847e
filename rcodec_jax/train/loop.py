"""The training loop: stages one after the other, resumable at any step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints, SignalGuard
from rcodec_jax.codec.freezing import load_trained
from rcodec_jax.codec.networks import Networks, count_parameters
from rcodec_jax.config import from_json, to_json
from rcodec_jax.config.train import Config, StageConfig
from rcodec_jax.data import ImageFolder, make_dataset
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.regions import MapSampler
from rcodec_jax.train.perceptual import load_perceptual
from rcodec_jax.train.reporting import Reporter
from rcodec_jax.train.samples import write_samples
from rcodec_jax.train.state import TrainState, init_state, make_optimizer, warm_start
from rcodec_jax.train.step import make_step

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"


def run(config: Config, *, data: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> int:
    """Trains, or goes on with the run in `workdir`.

    Args:
      config: the run.
      data: folder of training pictures.
      workdir: folder of the run: config.json, metrics.jsonl, samples and checkpoints.

    Returns:
      Finished steps: fewer than asked for after SIGTERM or SIGINT; the same call then goes on.

    Raises:
      UsageError: unusable data or settings, or a workdir that holds another model.
      RcodecError: a loss that is not finite.
    """
    scale.initialize_from_environment()
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    _keep_config(config, workdir)
    source = ImageFolder(
        data,
        min_side=16,
        cache_bytes=config.train.data.cache_mb * 10**6,
        exclude=config.train.data.exclude,
    )
    mesh = scale.make_mesh(
        config.train.mesh.data, config.train.mesh.fsdp, config.train.mesh.tensor
    )
    networks = Networks(config.model)
    optimizer = make_optimizer(config.train)

    def initial() -> TrainState:
        return init_state(networks, optimizer, config.train.seed)

    shapes = jax.eval_shape(initial)
    shardings = scale.shardings_for(shapes, mesh)
    total = sum(stage.steps for stage in config.train.stages)
    last_step = min(total, config.train.steps or total)
    with (
        Checkpoints(workdir / CHECKPOINTS) as checkpoints,
        Reporter(workdir, last_step) as report,
        SignalGuard() as guard,
    ):
        data_state: Any = None
        step = checkpoints.latest_step() or 0
        if step:
            abstract = jax.tree.map(
                lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, shardings
            )
            state, data_state = checkpoints.restore(step, abstract)
        else:
            state = jax.jit(initial, out_shardings=shardings)()
            if config.train.init_from:
                trained = load_trained(config.train.init_from)
                state = scale.place(warm_start(state, trained, config.model), shardings)
        report.start(step, count_parameters(shapes.params), len(source.paths), mesh.devices.size)

        first = 0
        for index, stage in enumerate(config.train.stages):
            end = min(first + stage.steps, last_step)
            if step < end:
                state, step = _run_stage(
                    config, stage, index, first, end, networks, optimizer, source, mesh, shardings,
                    state, step, data_state, checkpoints, report, guard,
                )  # fmt: skip
                data_state = None
            if guard.received or step < end:
                break
            first += stage.steps
        checkpoints.wait()
    return step


def _run_stage(
    config: Config,
    stage: StageConfig,
    index: int,
    first: int,
    end: int,
    networks: Networks,
    optimizer: Any,
    source: ImageFolder,
    mesh: Any,
    shardings: Any,
    state: TrainState,
    step: int,
    data_state: Any,
    checkpoints: Checkpoints,
    report: Reporter,
    guard: SignalGuard,
) -> tuple[TrainState, int]:
    train = config.train
    batches = make_dataset(
        source,
        crop_px=stage.crop_px,
        batch_size=stage.batch_size,
        seed=train.seed + 1000 * index,
        sample_maps=MapSampler(stage.node_range or config.model.node_range),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    if step > first:
        if data_state is None or data_state["stage"] != index:
            raise RcodecError(f"checkpoint of step {step} does not belong to stage {index}")
        batches.set_state(data_state["iterator"])
    perceptual = load_perceptual(train) if stage.loss.lpips else None
    batch_sharding = jax.sharding.NamedSharding(mesh, scale.BATCH_SPEC)
    advance = jax.jit(
        make_step(networks, optimizer, train, stage, first, perceptual),
        in_shardings=(shardings, batch_sharding),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
    while step < end:
        batch = scale.global_batch(next(batches), mesh)
        state, metrics = advance(state, batch)
        step += 1
        report.add(step, metrics, stage)
        stop = guard.should_stop(step)
        if step % train.log_every == 0 or step == end or stop:
            report.log(step)
        if step % train.save_every == 0 or step == end or stop:
            saved = {"stage": index, "iterator": batches.get_state()}
            checkpoints.save(step, state, saved, report.latest, wait=stop)
        if train.sample_every and step % train.sample_every == 0 and jax.process_index() == 0:
            write_samples(report.workdir, step, networks, state, np.asarray(batch["image"]))
        if stop:
            report.say(f"stopped by {guard.received} at step {step}; run again to go on")
            break
    if hasattr(batches, "close"):
        batches.close()
    return state, step


def _keep_config(config: Config, workdir: Path) -> None:
    """Writes the configuration beside the run; refuses a folder that holds another model."""
    path = workdir / CONFIG
    if path.exists():
        try:
            before = from_json(Config, path.read_text(encoding="utf-8"))
        except (RcodecError, json.JSONDecodeError) as error:
            raise UsageError(f"{path}: not the configuration of a run: {error}") from error
        if before.model != config.model or before.train.seed != config.train.seed:
            raise UsageError(
                f"{workdir} holds a run of another model or seed; use an empty --workdir"
            )
    if jax.process_index() == 0:
        part = path.with_suffix(".part")
        part.write_text(to_json(config) + "\n", encoding="utf-8")
        os.replace(part, path)


