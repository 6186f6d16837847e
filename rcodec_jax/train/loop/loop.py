"""The training loop: stages one after the other, resumable at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rcodec_jax import scale
from rcodec_jax.checkpoint import Checkpoints, SignalGuard, wait_for_all
from rcodec_jax.config import to_json
from rcodec_jax.config.train import Config
from rcodec_jax.data import Source, listing_digest, select
from rcodec_jax.errors import RcodecError, StorageError, UsageError
from rcodec_jax.model.networks import count_parameters
from rcodec_jax.model.trained import RUN_CHECKPOINTS
from rcodec_jax.train.input import heldout
from rcodec_jax.train.input.batches import HostBatches, open_sources, position, stage_mixture
from rcodec_jax.train.input.resident import Held, ResidentBatches, hold_pictures, steps_per_call
from rcodec_jax.train.loop.checks import check_cached_latents, check_stages
from rcodec_jax.train.loop.clock import RunClock
from rcodec_jax.train.loop.initial import starting_state
from rcodec_jax.train.loop.leftout import tell_damaged, tell_skipped
from rcodec_jax.train.loop.manifest import append_start, code_digest, describe_start, read_starts
from rcodec_jax.train.loop.measured import write_measured
from rcodec_jax.train.loop.profiling import ProfileWindow
from rcodec_jax.train.loop.reporting import Reporter
from rcodec_jax.train.loop.samples import SMALLEST_PX, write_samples
from rcodec_jax.train.loop.validation import Validation
from rcodec_jax.train.loop.workdir import find_changes, find_data_change, open_workdir, write_config
from rcodec_jax.train.plan.describe import stage_batch
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.guard import FiniteGuard
from rcodec_jax.train.step.losses import Batch, Perceptual
from rcodec_jax.train.step.perceptual import load_perceptual
from rcodec_jax.train.step.state import TrainState


class Outcome(NamedTuple):
    """What became of a run: finished steps, and whether that was all it was asked for."""

    steps: int
    finished: bool


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
      As `train`.
    """
    return train(config, data=data, workdir=workdir, allow_changes=allow_changes).steps


def train(
    config: Config,
    *,
    data: str | os.PathLike[str] | None = None,
    workdir: str | os.PathLike[str],
    allow_changes: Sequence[str] = (),
) -> Outcome:
    """`run`, which says whether the run is finished too.

    Raises:
      UsageError: unusable data or settings, or a workdir that holds another run.
      RcodecError: a step that is not finite, which it names with the first bad tensor.
      StorageError: a disk that is full or went away while it was training.
      KeyboardInterrupt: SIGINT, once the step is saved.
    """
    scale.initialize_from_environment()
    clock = None
    if config.train.max_minutes is not None:
        if jax.process_count() > 1:  # their clocks would not stop them at the same step
            raise UsageError("train.max_minutes: expected one process, got several")
        clock = RunClock(config.train)
    with open_workdir(workdir) as folder:
        return _train(config, data, folder, allow_changes, clock)


def _train(
    config: Config,
    data: str | os.PathLike[str] | None,
    workdir: Path,
    allow_changes: Sequence[str],
    clock: RunClock | None,
) -> Outcome:
    """`train` in the folder of the run."""
    changes = find_changes(config, workdir, allow_changes)
    opened = open_sources(config, data)
    sources, held_out = heldout.held_out(config, opened)
    listing = listing_digest(source for source, _ in sources)
    changes += find_data_change(listing, workdir, allow_changes)
    wait_for_all("agreement")
    scale.check_agreement({"recipe": to_json(config), "data": listing, "code": code_digest()})
    setup = Setup.of(config)
    train = config.train
    last_step = train.total_steps if clock is None else train.steps
    with (
        Checkpoints(
            workdir / RUN_CHECKPOINTS, keep_latest=train.keep_latest, keep_best=train.keep_best
        ) as checkpoints,
        Reporter(
            workdir, last_step, events=train.tensorboard, peak_flops=setup.peak_flops
        ) as report,
        SignalGuard(report.say) as guard,
    ):
        done = checkpoints.latest_step() or 0
        wait_for_all("opened")
        scale.check_agreement({"last step on disk": str(done)})
        check_stages(setup, sources, done)
        state, step, data_state = starting_state(setup, checkpoints)
        first = step
        if clock and data_state and "clock" in data_state:  # or the run went by steps so far
            clock.go_on(data_state["clock"])
        check_cached_latents(setup, sources, state, step)
        counts = dict.fromkeys(("images", "latents"), 0)
        for source, _ in sources:
            counts[source.kind] += source.picture_count
        listed = {"digest": listing, "pictures": counts["images"], "latents": counts["latents"]}
        validation = None
        if held_out:
            shown = heldout.crops(held_out, train.validation)
            validation = Validation(setup, shown)
            listed["validation"] = {"digest": listing_digest(held_out), "pictures": len(shown)}
        start = describe_start(config, setup.mesh, listed, step, changes)
        before = read_starts(workdir)[-1:] if step else []
        write_config(config, workdir)
        append_start(workdir, start)
        parameters = count_parameters(setup.shapes.params)
        report.start(step, parameters, counts, setup.mesh.devices.size)
        report.describe(step, to_json(config))
        for entry in before:
            if entry["code"] != start["code"]:
                commits = [one.get("commit") or one["code"][:12] for one in (entry, start)]
                report.say(f"note: the run goes on with other code: {' -> '.join(commits)}")
        read = [*(source for source, _ in opened), *held_out]
        tell_skipped(read, workdir, report.say)
        if validation is not None:
            report.say(f"measured on {len(shown)} pictures that are held out")
        if step == 0 and train.stages[0].kind == "codec" and train.init_from is None:
            report.say(
                "warning: the first stage trains the codec on a random autoencoder's latents"
            )
        held = None
        if train.data.resident:
            held = hold_pictures(select(sources, "images"), config, setup.mesh)
            report.say(f"{held['pixels'].nbytes / 1e6:.0f} MB of pixels on every device")
        this = _Run(setup, sources, held, validation, checkpoints, report, guard, start, clock)
        for index in range(len(train.stages)):
            if guard.received is not None:  # nothing new is compiled
                report.say(f"stopped by {guard.received} at step {step}; run again to go on")
                break
            if not this.over(index, step):
                state, step = this.train_stage(index, state, step, data_state)
                data_state = None
            if guard.stopping or not this.over(index, step):
                break
        finished = this.over(len(train.stages) - 1, step)
        tell_damaged(read, workdir, report.say)
        if finished:
            words = "finished after" if step > first else "the run is finished already:"
            report.say(f"{words} {_next_command(step, workdir)}")
        checkpoints.wait()
    if guard.received == "SIGINT":
        raise KeyboardInterrupt
    return Outcome(step, finished)


def _next_command(step: int, workdir: Path) -> str:
    return (
        f"{step} steps; next: rcodec freeze {workdir} --out BUNDLE, then "
        "rcodec eval PICTURES --model BUNDLE --out REPORT"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """What the stages of a run share."""

    setup: Setup
    sources: list[tuple[Source, float]]
    held: Held | None
    validation: Validation | None
    checkpoints: Checkpoints
    report: Reporter
    guard: SignalGuard
    start: dict[str, Any]
    clock: RunClock | None

    def end(self, index: int) -> int | None:
        """The step that stage `index` ends with; None where only time decides."""
        train = self.setup.config.train
        if self.clock is not None:
            return train.steps
        return min(train.first_steps[index] + train.stages[index].steps, train.total_steps)

    def over(self, index: int, step: int) -> bool:
        """Whether stage `index` is at its end after `step` steps."""
        end = self.end(index)
        if end is not None and step >= end:
            return True
        return self.clock is not None and self.clock.over(index)

    def train_stage(
        self, index: int, state: TrainState, step: int, data_state: Any
    ) -> tuple[TrainState, int]:
        """Trains stage `index` from `step` to its end or a signal."""
        config, report, clock = self.setup.config, self.report, self.clock
        train, stage = config.train, config.train.stages[index]
        report.stage(index, train.stages, train.first_steps[index], self.end(index))
        batches = self._batches(index)
        inside = data_state is not None and data_state["stage"] == index
        if inside:
            batches.set_state(position(data_state, stage.batch_size))
        elif clock is None and step > train.first_steps[index]:
            raise RcodecError(f"checkpoint of step {step} does not belong to stage {index}")
        count, unseen = 1, step - batches.get_state()["next_index"]
        if isinstance(batches, ResidentBatches):
            count = steps_per_call(train, step, self.end(index), self.setup.mesh)
        perceptual = load_perceptual(train) if stage.loss.lpips else None
        finite = FiniteGuard(self.setup.gradient(stage, perceptual))
        profile = ProfileWindow(report.workdir, train.profile)
        advance, every = None, min(train.log_every, train.save_every)
        over, closing = False, contextlib.closing

        def batch_of(number: int) -> Batch:  # of a step, where a program makes several
            assert isinstance(batches, ResidentBatches)
            return batches.batch(number - 1 - unseen)

        with closing(batches), closing(profile), _storage_faults(report.workdir):
            while not over:
                asked = time.perf_counter()
                if isinstance(batches, ResidentBatches) and count > 1:
                    batch = batches.ahead(count)
                else:
                    batch = next(batches)
                waited_s = time.perf_counter() - asked
                if advance is None:
                    advance = self._compiled(index, step, perceptual, batches, batch, count)
                    waited_s = 0.0
                when = () if clock is None else (np.float32(clock.position(index)),)
                profile.before(step + 1)
                state, metrics = advance(state, batch, *when)
                step += count
                profile.after(step, metrics)
                finite.note(step, metrics.pop("finite"), batch if count == 1 else batch_of)
                report.add(metrics, stage, waited_s, count)
                stop = self.guard.should_stop()
                over = self.over(index, step)
                save = step % train.save_every == 0 or over or stop
                log = step % every == 0 or over or stop
                measure = self.validation is not None and (
                    step % train.validation.every == 0 or over
                )
                finite.check(state, behind=0 if log or measure or save else 1)
                if log:
                    report.log(step, None if clock is None else clock.left_s)
                loss = self._measure(index, step, state) if measure else None
                if save:
                    saved = {
                        "stage": index,
                        "iterator": batches.get_state(),
                        "batch_size": stage.batch_size,
                    }
                    if clock is not None:
                        saved["clock"] = clock.state
                    figures = {}
                    if self.validation is None and report.window == every:
                        # The mean of a few lucky steps would pass for the best.
                        figures = report.latest | {"stage": index}
                    elif loss is not None:
                        figures = {"validation": loss, "stage": index}
                    self.checkpoints.save(step, state, saved, figures, about=self.start, wait=stop)
                sampled = train.sample_every and step % train.sample_every == 0
                if sampled and not stage.latents and stage.crop_px >= SMALLEST_PX:
                    image = (batch if count == 1 else batch_of(step))["image"]
                    networks, mesh = self.setup.networks, self.setup.mesh
                    write_samples(report.workdir, step, networks, state, image, mesh)
                if stop and not over:
                    signal = self.guard.received or "SIGTERM"  # perhaps another process's
                    report.say(f"stopped by {signal} at step {step}; run again to go on")
                if stop:
                    break
        return state, step

    def _measure(self, index: int, step: int, state: TrainState) -> float:
        """The loss on what is held out, told and written down."""
        assert self.validation is not None
        measured, sheet = self.validation.measure(state)
        self.report.measured(step, measured, sheet)
        write_measured(self.report.workdir, step, index, measured, sheet)
        return measured.loss

    def _batches(self, index: int) -> HostBatches | ResidentBatches:
        config, mesh = self.setup.config, self.setup.mesh
        if self.held is not None:
            return ResidentBatches(config, index, self.held, mesh)
        mixture = stage_mixture(self.sources, config.train.stages[index])
        return HostBatches(config, index, mixture, mesh)

    def _compiled(
        self,
        index: int,
        step: int,
        perceptual: Perceptual | None,
        batches: HostBatches | ResidentBatches,
        batch: Any,
        count: int,
    ) -> Any:
        """The program of `count` steps of a stage; a run's schedule waits for it."""
        config, clock = self.setup.config, self.clock
        stage, first = config.train.stages[index], config.train.first_steps[index]
        if clock is not None:
            clock.stop()
        if count > 1 and isinstance(batches, ResidentBatches):
            program = self.setup.steps(stage, first, perceptual, batches.at, count)
        else:
            program = self.setup.step(stage, first, perceptual, timed=clock is not None)
        when = () if clock is None else (np.float32(0),)
        with self.guard.during("compiling"):
            advance, seconds = self.setup.compiled(program, batch, *when)
            if self.validation is not None:
                seconds += self.validation.prepare(stage)
        flops = None
        if config.train.peak_flops is not None:
            flops = self.setup.step_flops(stage, stage_batch(config, stage), perceptual).total
        self.report.compiled(step, seconds, flops)
        wait_for_all(f"compiled stage {index}")
        if clock is not None:
            clock.go(seconds * (len(config.train.stages) - 1 - index))
        return advance


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
