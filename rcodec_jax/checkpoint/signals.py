"""Clean stops: SIGTERM and SIGINT become a question that the training loop asks at each step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils


class SignalGuard:
    """While entered, the first SIGTERM or SIGINT only sets a flag; a second one acts as usual.

    Alone, a process asks its own flag. Among several, all have to stop at the same step: there
    SIGTERM is left to the preemption service of `jax.distributed`, which tells every process the
    same step, and SIGINT keeps its usual meaning. Outside the main thread, where Python lets
    nobody handle signals, the guard only answers False.

    Example:
      with SignalGuard() as guard:
          for step in range(start, stop):
              state = train_step(state, next(batches))
              if guard.should_stop():
                  checkpoints.save(step + 1, state, batches.get_state(), wait=True)
                  break
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._asked = 0
        self._stopping = False
        self._previous: dict[int, Any] = {}

    @property
    def received(self) -> str | None:
        """Name of the signal that this process was sent ('SIGTERM'); None before."""
        return None if self._received is None else signal.Signals(self._received).name

    @property
    def stopping(self) -> bool:
        """Whether `should_stop` has said so. The service that it asks says it at one step only."""
        return self._stopping

    def should_stop(self) -> bool:
        """Whether to save and stop now. Several processes must all ask at each step."""
        # The service says "at the next number", and before it was ever asked that is 1: a run that
        # goes on from step 3 would pass it unseen, and a signal during compilation be lost.
        self._asked += 1
        if jax.process_count() > 1:
            now = multihost_utils.reached_preemption_sync_point(self._asked)
        else:
            now = self._received is not None
        self._stopping = self._stopping or now
        return self._stopping

    def __enter__(self) -> SignalGuard:
        self._received, self._stopping = None, False
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._give_back()

    def _give_back(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: a handler that was not installed from Python; there is no way to name it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
