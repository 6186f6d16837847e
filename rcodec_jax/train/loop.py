"""The training loop: stages one after the other, resumable at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints, SignalGuard, wait_for_all
from rcodec_jax.codec.networks import count_parameters
from rcodec_jax.codec.trained import RUN_CHECKPOINTS
from rcodec_jax.config import to_json
from rcodec_jax.config.train import Config
from rcodec_jax.data import Source, listing_digest
from rcodec_jax.errors import RcodecError, StorageError, UsageError
from rcodec_jax.train.batches import open_sources, position, stage_batches, stage_mixture
from rcodec_jax.train.checks import check_cached_latents, check_stages
from rcodec_jax.train.guard import FiniteGuard
from rcodec_jax.train.manifest import append_start, code_digest, describe_start
from rcodec_jax.train.perceptual import load_perceptual
from rcodec_jax.train.profiling import ProfileWindow
from rcodec_jax.train.reporting import Reporter
from rcodec_jax.train.samples import write_samples
from rcodec_jax.train.setup import Setup
from rcodec_jax.train.start import starting_state
from rcodec_jax.train.state import TrainState
from rcodec_jax.train.workdir import find_changes, find_data_change, open_workdir, write_config


def run(
    config: Config,
    *,
    data: str | os.PathLike[str] | None = None,
    workdir: str | os.PathLike[str],
    allow_changes: Sequence[str] = (),
) -> int:
    """Trains, or goes on with the run in `workdir`.

    Args:
      config: the run.
      data: the only source (folder, glob or name); None for those of the configuration.
      workdir: folder of the run: config.json, manifest.jsonl, metrics.jsonl, samples, checkpoints.
      allow_changes: fields that may differ from those of the run in `workdir`, see `find_changes`.

    Returns:
      Finished steps: fewer than asked for after SIGTERM; the same call then goes on.

    Raises:
      UsageError: unusable data or settings, or a workdir that holds another run.
      RcodecError: a step that is not finite, which it names with the first bad tensor.
      StorageError: a disk that is full or went away while it was training.
      KeyboardInterrupt: SIGINT, once the step is saved.
    """
    scale.initialize_from_environment()
    workdir = open_workdir(workdir)
    changes = find_changes(config, workdir, allow_changes)
    sources = open_sources(config, data)
    listing = listing_digest(source for source, _ in sources)
    changes += find_data_change(listing, workdir, allow_changes)
    wait_for_all("agreement")
    scale.check_agreement({"recipe": to_json(config), "data": listing, "code": code_digest()})
    setup = Setup.of(config)
    train = config.train
    last_step = train.total_steps
    with (
        Checkpoints(
            workdir / RUN_CHECKPOINTS, keep_latest=train.keep_latest, keep_best=train.keep_best
        ) as checkpoints,
        Reporter(
            workdir, last_step, events=train.tensorboard, peak_flops=setup.peak_flops
        ) as report,
        SignalGuard() as guard,
    ):
        done = checkpoints.latest_step() or 0
        wait_for_all("opened")
        scale.check_agreement({"last step on disk": str(done)})
        check_stages(setup, sources, done)
        state, step, data_state = starting_state(setup, checkpoints)
        check_cached_latents(setup, sources, state, step)
        pictures = sum(source.picture_count for source, _ in sources)
        listed = {"digest": listing, "pictures": pictures}
        start = describe_start(config, setup.mesh, listed, step, changes)
        write_config(config, workdir)
        append_start(workdir, start)
        parameters = count_parameters(setup.shapes.params)
        report.start(step, parameters, pictures, setup.mesh.devices.size)
        if step == 0 and train.stages[0].kind == "codec" and train.init_from is None:
            report.say(
                "warning: the first stage trains the codec on a random autoencoder's latents"
            )
        this = _Run(setup, sources, checkpoints, report, guard, start)
        for index, first in enumerate(train.first_steps):
            end = min(first + train.stages[index].steps, last_step)
            if step < end:
                state, step = this.train_stage(index, first, end, state, step, data_state)
                data_state = None
            if guard.stopping or step < end:
                break
        checkpoints.wait()
    if guard.received == "SIGINT":
        raise KeyboardInterrupt
    return step


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """What the stages of a run share."""

    setup: Setup
    sources: list[tuple[Source, float]]
    checkpoints: Checkpoints
    report: Reporter
    guard: SignalGuard
    start: dict[str, Any]

    def train_stage(
        self, index: int, first: int, end: int, state: TrainState, step: int, data_state: Any
    ) -> tuple[TrainState, int]:
        """Trains stage `index`, whose first step is `first`, from `step` to `end` or a signal."""
        config, report = self.setup.config, self.report
        train, stage = config.train, config.train.stages[index]
        mixture = stage_mixture(self.sources, stage)
        batches = stage_batches(config, index, mixture, self.setup.mesh)
        if step > first:
            if data_state is None or data_state["stage"] != index:
                raise RcodecError(f"checkpoint of step {step} does not belong to stage {index}")
            batches.set_state(position(data_state, stage.batch_size))
        perceptual = load_perceptual(train) if stage.loss.lpips else None
        finite = FiniteGuard(self.setup.gradient(stage, perceptual))
        profile = ProfileWindow(report.workdir, train.profile)
        advance, every = None, min(train.log_every, train.save_every)
        closing = contextlib.closing
        with closing(batches), closing(profile), _storage_faults(report.workdir):
            while step < end:
                asked = time.perf_counter()
                host_batch = next(batches)
                waited_s = time.perf_counter() - asked
                batch = scale.global_batch(host_batch, self.setup.mesh)
                if advance is None:
                    advance, seconds = self.setup.compiled_step(stage, first, perceptual, batch)
                    flops = None
                    if train.peak_flops is not None:
                        flops = self.setup.step_flops(stage, batch, perceptual).total
                    report.compiled(step, seconds, flops)
                    waited_s = 0.0
                    wait_for_all(f"compiled stage {index}")
                profile.before(step + 1)
                state, metrics = advance(state, batch)
                step += 1
                profile.after(step, metrics)
                finite.note(step, metrics.pop("finite"), batch)
                report.add(metrics, stage, waited_s)
                stop = self.guard.should_stop()
                save = step % train.save_every == 0 or step == end or stop
                log = step % every == 0 or step == end or stop
                finite.check(state, behind=0 if log else 1)
                if log:
                    report.log(step)
                if save:
                    saved = {
                        "stage": index,
                        "iterator": batches.get_state(),
                        "batch_size": stage.batch_size,
                    }
                    # The mean of a few lucky steps would pass for the best.
                    figures = report.latest | {"stage": index} if report.window == every else {}
                    self.checkpoints.save(step, state, saved, figures, about=self.start, wait=stop)
                if train.sample_every and step % train.sample_every == 0 and "image" in batch:
                    networks, image, mesh = self.setup.networks, batch["image"], self.setup.mesh
                    write_samples(report.workdir, step, networks, state, image, mesh)
                if stop:
                    signal = self.guard.received or "SIGTERM"  # perhaps another process's
                    report.say(f"stopped by {signal} at step {step}; run again to go on")
                    break
        return state, step


@contextlib.contextmanager
def _storage_faults(workdir: Path) -> Iterator[None]:
    """What the operating system cannot read or write becomes a StorageError."""
    try:
        yield
    except BrokenPipeError:  # whoever read what is said
        raise
    except (OSError, UsageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno is None:
            raise
        reason = f"{cause.filename or workdir}: {cause.strerror}" if cause is error else str(error)
        raise StorageError(reason) from error
