"""Crops of coded pictures for a page: the original, the first codec, and a peer near its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rcodec_jax.data import read_image
from rcodec_jax.errors import RcodecError
from rcodec_jax.evaluate.coders import Coder
from rcodec_jax.evaluate.metric import measured
from rcodec_jax.evaluate.page import Comparison, Version, centre, data_uri
from rcodec_jax.evaluate.run import Row, coded_path

PICTURES = 6
SIDE_PX = 384
"""Most pictures that are shown, and the side of a crop."""

NOTE = (
    "The middle of the picture, without loss from the files that were measured. The peer's file is "
    "the one nearest in bytes. Move the pointer or the slider; choose what is left and right of it."
)


def middle_row(rows: Sequence[Row], picture: str, codec: str) -> Row | None:
    """The row of a picture at the codec's middle setting, by bytes."""
    own = [row for row in rows if row.picture == picture and row.codec == codec]
    own.sort(key=lambda row: row.size_bytes)
    return own[len(own) // 2] if own else None


def nearest_row(rows: Sequence[Row], picture: str, codec: str, size_bytes: int) -> Row | None:
    """The row of a picture whose file of the codec is nearest in bytes."""
    own = [row for row in rows if row.picture == picture and row.codec == codec]
    return min(own, key=lambda row: abs(row.size_bytes - size_bytes), default=None)


def compare(
    rows: Sequence[Row], own: Coder, peer: Coder | None, *, root: Path, kept: Path
) -> list[Comparison]:
    """Crops of up to `PICTURES` pictures, spread evenly over those measured.

    A picture whose coded file is gone is left out.

    Args:
      root: folder of the pictures.
      kept: folder of the coded files.
    """
    names = list(dict.fromkeys(row.picture for row in rows))
    step = max(1, len(names) / PICTURES)
    chosen = [names[int(i * step)] for i in range(min(PICTURES, len(names)))]
    made = []
    for name in chosen:
        ours = middle_row(rows, name, own.name)
        theirs = None
        if ours is not None and peer is not None:
            theirs = nearest_row(rows, name, peer.name, ours.size_bytes)
        shown = [
            (coder, row)
            for coder, row in ((own, ours), (peer, theirs))
            if coder is not None and row is not None
        ]
        try:
            original = read_image(root / name).pixels
            decoded = [(row, decoded_file(coder, row, kept)) for coder, row in shown]
        except (OSError, RcodecError):
            continue
        if decoded:
            made.append(_comparison(name, original, decoded))
    return made


def decoded_file(coder: Coder, row: Row, kept: Path) -> np.ndarray:
    """uint8 [H, W, 3] of the file of a row. Raises OSError if it is gone."""
    path = coded_path(kept, row.picture, row.codec, row.setting, coder.suffix)
    return coder.decode(path.read_bytes())


def _comparison(
    name: str, original: np.ndarray, decoded: Sequence[tuple[Row, np.ndarray]]
) -> Comparison:
    window = centre(original.shape[0], original.shape[1], SIDE_PX)
    crop = original[window]
    versions = [
        Version("original", f"{original.shape[1]} × {original.shape[0]} px", data_uri(crop))
    ]
    first = decoded[0][0].size_bytes
    for row, pixels in decoded:
        more = "" if row.size_bytes == first else f" ({row.size_bytes / first - 1:+.0%})"
        figures = [f"{row.size_bytes:,} bytes{more}", f"{row.bpp:.3f} bpp"]
        for metric in measured([row.figures]):
            figures.append(f"{metric.page_title} {row.figures[metric.name]:.{metric.digits}f}")
        versions.append(Version(row.codec, ", ".join(figures), data_uri(pixels[window])))
    return Comparison(name, crop.shape[1], crop.shape[0], versions)
