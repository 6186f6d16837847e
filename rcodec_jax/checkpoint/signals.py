"""Clean stops: SIGTERM and SIGINT become a question that the training loop asks at each step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

_CAUGHT = ("SIGTERM", "SIGINT")


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

    Args:
      say: called with a line, at once and from another thread, when a signal comes while something
        goes on that cannot be interrupted (`during`).
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._doing: str | None = None
        self._pipe: tuple[int, int] | None = None
        self._old_pipe = -1
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

    @contextlib.contextmanager
    def during(self, doing: str) -> Iterator[None]:
        """Within it a signal is said at once: Python hears of it only when a program is compiled.

        Args:
          doing: what goes on, such as "compiling".
        """
        self._doing = doing
        try:
            yield
        finally:
            self._doing = None

    def _listen(self) -> None:
        """Has the numbers of signals written to a pipe, by a handler that waits for no Python."""
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._old_pipe = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._tell, args=(self._pipe[0],), daemon=True).start()

    def _tell(self, end: int) -> None:
        with os.fdopen(end, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                name = signal.Signals(number[0]).name
                if self._say is not None and self._doing is not None and name in _CAUGHT:
                    self._say(f"{name}: the run stops when it is done with {self._doing}")

    def __enter__(self) -> SignalGuard:
        self._received, self._stopping = None, False
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _CAUGHT):
                self._previous[number] = signal.signal(number, self._note)
            if self._say is not None and os.name == "posix":
                self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._old_pipe)
            os.close(self._pipe[1])  # which ends the thread
            self._pipe = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._give_back()

    def _give_back(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: a handler that was not installed from Python; there is no way to name it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
