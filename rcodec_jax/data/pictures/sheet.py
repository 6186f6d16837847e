"""Pictures side by side, each under its caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

GAP_PX = 4
CAPTION_PX = 14
"""Height of the strip above a picture that its caption is written into."""


def captioned_sheet(rows: Sequence[Sequence[tuple[np.ndarray, str]]]) -> np.ndarray:
    """A sheet of pictures.

    Args:
      rows: (uint8 [H, W, 3], caption) of each picture from left to right, all of one size; a
        caption that is wider than its picture is cut off.

    Returns:
      uint8 [rows * (H + 18), columns * (W + 4), 3], white between the pictures.
    """
    height, width, _ = rows[0][0][0].shape
    down, across = height + CAPTION_PX + GAP_PX, width + GAP_PX
    sheet = Image.new("RGB", (across * max(map(len, rows)), down * len(rows)), "white")
    for top, row in enumerate(rows):
        for left, (pixels, caption) in enumerate(row):
            cell = Image.new("RGB", (width, CAPTION_PX + height), "white")
            ImageDraw.Draw(cell).text((1, 0), caption, fill="black")
            cell.paste(Image.fromarray(pixels), (0, CAPTION_PX))
            sheet.paste(cell, (left * across, top * down))
    return np.asarray(sheet)
