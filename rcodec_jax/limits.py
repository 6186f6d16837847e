"""Limits of what others hand us, checked before anything is allocated. A leaf module."""

from __future__ import annotations

from dataclasses import dataclass

from rcodec_jax.errors import LimitError
from rcodec_jax.levels import CELL_PX

MAX_JSON_BYTES = 2**24
"""Longest JSON file, and longest header of tensors, of a model."""

MAX_DIMENSIONS = 8
"""Most dimensions of a stored tensor."""


@dataclass(frozen=True)
class Limits:
    """What a decoder is willing to handle; a file that declares more ends in LimitError.

    Attributes:
      max_pixels: most pixels of a picture.
      max_side: longest side of a picture, in pixels.
      max_payload_bytes: longest entropy coded payload.
      max_file_bytes: longest file.
    """

    max_pixels: int = 2**28
    max_side: int = 2**16
    max_payload_bytes: int = 2**30
    max_file_bytes: int = 2**30

    def allow(self, height_px: int, width_px: int) -> bool:
        """Whether a picture of this size is within the limits."""
        return max(height_px, width_px) <= self.max_side and height_px * width_px <= self.max_pixels

    def check_cells(self, height_cells: int, width_cells: int) -> None:
        """Refuses a grid of latent cells that no picture within the limits can have.

        Raises:
          LimitError: a side is not positive, or the smallest picture with so many cells is too
            large.
        """
        if height_cells < 1 or width_cells < 1:
            raise LimitError(f"need at least 1x1 cells, got {height_cells}x{width_cells}")
        height_px = (height_cells - 1) * CELL_PX + 1
        width_px = (width_cells - 1) * CELL_PX + 1
        if not self.allow(height_px, width_px):
            raise LimitError(
                f"a picture of {height_cells}x{width_cells} cells is above the limits of "
                f"{self.max_pixels} pixels and {self.max_side} per side"
            )

    def check_payload(self, length: int) -> None:
        """Refuses a payload that is too long.

        Raises:
          LimitError: more than `max_payload_bytes`.
        """
        if length > self.max_payload_bytes:
            raise LimitError(f"payload of {length} bytes is above {self.max_payload_bytes}")
