"""Runs that are given a time."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from rcodec_jax.checkpoint import Checkpoints
from rcodec_jax.config.train import StageConfig, TrainConfig
from rcodec_jax.train import Outcome, train
from rcodec_jax.train.loop import loop
from rcodec_jax.train.loop.clock import RunClock

TRAIN = TrainConfig(
    stages=(StageConfig(steps=300), StageConfig(steps=100)), max_minutes=100 / 60 / 0.97
)
"""100 seconds of training, the reserve apart."""


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_schedule_waits_for_compilation_and_ends_with_the_time() -> None:
    now = Time()
    clock = RunClock(TRAIN, now)
    now.now += 20  # to read data and compile
    assert clock.share == 0
    clock.go()
    now.now += 40
    assert clock.share == pytest.approx(0.5)
    assert clock.position(0) == pytest.approx(200) and not clock.over(0)
    now.now += 20
    assert clock.share == pytest.approx(0.75) and clock.position(0) == pytest.approx(300)
    assert clock.position(1) == pytest.approx(0, abs=1e-6)
    clock.stop()
    now.now += 10
    assert clock.share == pytest.approx(0.75)
    clock.go()
    now.now += 5
    assert clock.over(0) and clock.position(1) == pytest.approx(50) and not clock.over(1)
    now.now += 5
    assert clock.share == 1 and clock.over(1)


def test_time_is_left_for_what_is_compiled_later() -> None:
    now = Time()
    clock = RunClock(TRAIN, now)
    now.now += 20
    clock.go(later_s=20)
    now.now += 45  # of 60 that are left for training
    assert clock.over(0) and clock.share == pytest.approx(0.75)
    clock.stop()
    now.now += 20
    clock.go()
    assert clock.position(1) == pytest.approx(0, abs=1e-6)
    now.now += 7.5
    assert clock.position(1) == pytest.approx(50)
    now.now += 7.5
    assert clock.over(1)


def test_a_run_goes_on_with_what_is_left() -> None:
    now = Time()
    clock = RunClock(TRAIN, now)
    clock.go()
    now.now += 50
    state, now.now = clock.state, 5.0
    assert state == pytest.approx({"spent_s": 50, "share": 0.5})
    clock = RunClock(TRAIN, now)
    clock.go_on(state)
    now.now += 10
    clock.go()
    assert clock.share == pytest.approx(0.5)
    now.now += 20
    assert clock.share == pytest.approx(0.75)
    assert clock.state == pytest.approx({"spent_s": 80, "share": 0.75})
    now.now += 20
    assert clock.share == 1


def test_stages_must_train_the_same_parameters() -> None:
    stages = (StageConfig(kind="codec"), StageConfig(kind="joint"))
    with pytest.raises(ValueError, match="max_minutes: expected stages that train the same"):
        TrainConfig(stages=stages, max_minutes=1.0)


def test_a_timed_run_ends_with_a_checkpoint(pictures, tools, tmp_path, monkeypatch) -> None:
    """Stopped by a bound on its steps first; the rest of its time goes to both stages."""
    config = tools.config("autoencoder", "autoencoder", steps=100, max_minutes=1.0)

    def go_on(steps: int | None) -> Outcome:
        ticks = itertools.count()  # a second whenever anybody looks
        monkeypatch.setattr(loop, "RunClock", lambda config: RunClock(config, lambda: next(ticks)))
        settings = dataclasses.replace(config.train, steps=steps, save_every=1000)
        whole = dataclasses.replace(config, train=settings)
        return train(whole, data=pictures, workdir=tmp_path)

    assert go_on(3) == (3, True)
    steps, finished = go_on(None)
    assert finished and 8 < steps < 60
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.latest_step() == steps
    rates = [row["learning_rate"] for row in tools.metrics(tmp_path)]
    top = config.train.stages[0].learning_rate
    assert len(rates) == steps and max(rates) > 0.8 * top and rates[-1] < 0.4 * top
    assert any(b > 2 * a for a, b in itertools.pairwise(rates[4:]))  # the second stage
    assert go_on(None) == (steps, True)  # nothing left to do
