"""Runs that are given a time instead of a number of steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from rcodec_jax.config.train import TrainConfig

RESERVE = 0.03
RESERVE_S = 15.0
"""Share of a run's time, and most seconds, that are kept for its last checkpoint."""


class RunClock:
    """How far a run with `max_minutes` is in its schedule, by the time that it may still take.

    The time counts from the start of the process's run, all of it: reading data, compiling, saving.
    The schedule moves only between `go` and `stop`, and just so fast that it ends with the time.

    Args:
      config: the run; `max_minutes` is set.
      now: seconds of a clock that never goes back.
    """

    def __init__(self, config: TrainConfig, now: Callable[[], float] = time.monotonic) -> None:
        assert config.max_minutes is not None
        self._now, self._began = now, now()
        self._spent_s, self._share = 0.0, 0.0
        total_s = 60 * config.max_minutes
        self._deadline = self._began + total_s - min(RESERVE_S, RESERVE * total_s)
        self._since: float | None = None
        self._later_s = 0.0
        steps = [stage.steps for stage in config.stages]
        self._ends = [done / sum(steps) for done in itertools.accumulate(steps)]
        self._stages = config.stages

    def go_on(self, state: dict[str, float]) -> None:
        """Goes on from the state of a checkpoint, before the schedule moves."""
        self._spent_s, self._share = state["spent_s"], state["share"]
        self._deadline -= self._spent_s

    def go(self, later_s: float = 0.0) -> None:
        """The schedule moves from here on, and leaves time for compiling that comes later."""
        self._since = self._now()
        self._later_s = later_s

    def stop(self) -> None:
        """The schedule stands still, while something is compiled."""
        self._share, self._since = self.share, None

    @property
    def share(self) -> float:
        """How much of the schedule has gone by, 0..1."""
        now = self._now()
        if now >= self._deadline:
            return 1.0
        if self._since is None:
            return self._share
        left_s = max(self._deadline - self._later_s - self._since, 1e-6)
        gone = min((now - self._since) / left_s, 1.0)
        return self._share + (1 - self._share) * gone

    @property
    def left_s(self) -> float:
        """Seconds to the end of the run."""
        return max(0.0, self._deadline - self._now())

    def over(self, stage: int) -> bool:
        """Whether a stage is at its end; its share of the time is its share of all steps."""
        return self.share >= self._ends[stage]

    def position(self, stage: int) -> float:
        """How far a stage is in its schedule, in steps of the recipe."""
        first = self._ends[stage - 1] if stage else 0.0
        return (self.share - first) / (self._ends[stage] - first) * self._stages[stage].steps

    @property
    def state(self) -> dict[str, float]:
        """To go on with, as plain data."""
        return {"spent_s": self._spent_s + self._now() - self._began, "share": self.share}
