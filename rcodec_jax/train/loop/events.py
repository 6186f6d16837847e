"""TensorBoard event files, written without TensorFlow: figures, pictures and texts."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.data import write_image
from rcodec_jax.errors import UsageError


class EventFile:
    """What a run tells TensorBoard.

    Args:
      folder: where the file goes; a resumed run adds another one there.
      step: finished steps; TensorBoard forgets what earlier files say of later ones.

    Raises:
      UsageError: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise UsageError(
                "train.tensorboard needs a package that is not installed: "
                "pip install 'rcodec-jax[tensorboard]'"
            ) from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._metadata, self._tensor = summary_pb2.SummaryMetadata, tensor_pb2.TensorProto
        self._text_type = types_pb2.DT_STRING
        self._writer = EventFileWriter(str(folder))
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(
            event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=started)
        )

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds one value for each name at a step, and writes it out."""
        self._write(step, *(self._summary.Value(tag=k, simple_value=v) for k, v in figures.items()))

    def add_picture(self, step: int, tag: str, pixels: np.ndarray) -> None:
        """Adds a picture uint8 [H, W, 3]."""
        png = io.BytesIO()
        write_image(png, pixels, format="PNG")
        height, width, channels = pixels.shape
        image = self._summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
        )
        self._write(step, self._summary.Value(tag=tag, image=image))

    def add_text(self, step: int, tag: str, text: str) -> None:
        """Adds a text in Markdown."""
        plugin = self._metadata.PluginData(plugin_name="text")
        tensor = self._tensor(dtype=self._text_type, string_val=[text.encode()])
        tensor.tensor_shape.dim.add(size=1)
        about = self._metadata(plugin_data=plugin)
        self._write(step, self._summary.Value(tag=tag, metadata=about, tensor=tensor))

    def _write(self, step: int, *values: Any) -> None:
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
