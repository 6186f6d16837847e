"""TensorBoard event files, written without TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rcodec_jax.errors import UsageError


class EventFile:
    """Scalars of a run for TensorBoard.

    Args:
      folder: where the file goes; a resumed run adds another one there.
      step: finished steps; TensorBoard forgets what earlier files say of later ones.

    Raises:
      UsageError: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise UsageError(
                "train.tensorboard needs a package that is not installed: "
                "pip install 'rcodec-jax[tensorboard]'"
            ) from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(
            event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=started)
        )

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds one value for each name at a step, and writes it out."""
        values = [self._summary.Value(tag=k, simple_value=v) for k, v in figures.items()]
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
