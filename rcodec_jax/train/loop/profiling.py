"""A window of steps recorded for the profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax


class ProfileWindow:
    """Records some steps of a run into `workdir/profile`, for TensorBoard or Perfetto.

    Args:
      workdir: folder of the run.
      window: first step and number of steps; None records nothing.
    """

    def __init__(self, workdir: Path, window: tuple[int, int] | None) -> None:
        self._folder = workdir / "profile"
        self._first, count = window or (0, 0)
        self._last = self._first + count - 1
        self._open = False

    def before(self, step: int) -> None:
        """To be called before step number `step` is started."""
        if not self._open and self._first <= step <= self._last:
            jax.profiler.start_trace(str(self._folder))
            self._open = True

    def after(self, step: int, results: Any) -> None:
        """To be called when it has been started; waits for its results if it is the last."""
        if self._open and step >= self._last:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """Ends a recording that is under way."""
        if self._open:
            self._open = False
            jax.profiler.stop_trace()
