"""Stopping between stages, going on with another batch size, and what is refused at the start."""

from __future__ import annotations

import dataclasses

import pytest

from rcodec_jax.checkpoint import SignalGuard
from rcodec_jax.errors import UsageError
from rcodec_jax.train import run
from rcodec_jax.train.input.batches import position


def test_a_stop_at_the_end_of_a_stage_is_a_stop(tools, pictures, tmp_path, monkeypatch) -> None:
    """The service that several processes ask says so once, and of whom the signal was sent to."""
    asked = []

    def told(guard: SignalGuard) -> bool:
        asked.append(1)
        guard._stopping = guard._stopping or len(asked) == 2
        return len(asked) == 2

    monkeypatch.setattr(SignalGuard, "should_stop", told)
    config = tools.config("autoencoder", "autoencoder")
    assert run(config, data=pictures, workdir=tmp_path) == 2
    monkeypatch.undo()
    assert run(config, data=pictures, workdir=tmp_path) == 4


def test_several_processes_are_told_once_and_remember(monkeypatch) -> None:
    answers = iter([False, True, False])
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(
        "jax.experimental.multihost_utils.reached_preemption_sync_point", lambda _: next(answers)
    )
    with SignalGuard() as guard:
        assert not guard.should_stop() and not guard.stopping
        assert guard.should_stop() and guard.stopping
        assert guard.should_stop() and guard.received is None


@pytest.mark.parametrize("before, after, expected", [(8, 8, 6), (8, 16, 3), (8, 4, 12)])
def test_another_batch_size_goes_on_at_the_same_row(before, after, expected) -> None:
    saved = {"stage": 0, "iterator": {"next_index": 6}, "batch_size": before}
    assert position(saved, after) == {"next_index": expected}


def test_a_batch_size_that_would_repeat_rows_is_refused() -> None:
    with pytest.raises(UsageError, match="divides the 48 rows seen in batches of 8, got 5"):
        position({"stage": 0, "iterator": {"next_index": 6}, "batch_size": 8}, 5)
    # a checkpoint that does not say its batch size
    assert position({"stage": 0, "iterator": {"next_index": 6}}, 5) == {"next_index": 6}


def test_a_url_is_no_workdir(tools, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="gs://bucket/run: expected a folder, got a URL"):
        run(tools.config("joint"), data=pictures, workdir="gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_later_stages_are_looked_at_before_the_first_begins(tools, pictures, tmp_path) -> None:
    config = tools.config("autoencoder", "codec")
    stages = list(config.train.stages)
    stages[1] = dataclasses.replace(stages[1], latents=True)
    train = dataclasses.replace(config.train, stages=tuple(stages))
    with pytest.raises(UsageError, match="latents"):
        run(dataclasses.replace(config, train=train), data=pictures, workdir=tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
