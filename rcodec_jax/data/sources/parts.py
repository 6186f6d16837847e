"""A source divided into pictures to train on and pictures that are held out."""

from __future__ import annotations

import hashlib

import numpy as np

from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError


class Part(PictureSource):
    """Some pictures of a source, which are read through it.

    Args:
      whole: the source.
      pictures: indices of its pictures, ascending, at least one.
    """

    def __init__(self, whole: PictureSource, pictures: np.ndarray) -> None:
        self.whole, self._pictures = whole, np.asarray(pictures, np.int64)
        sizes = None
        if whole.areas_px is not None:  # of sizes only the products count
            areas = whole.areas_px[self._pictures]
            sizes = np.stack([areas, np.ones_like(areas)], axis=1)
        super().__init__(len(self._pictures), sizes)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.whole.digest} {self._pictures.tolist()}".encode()).hexdigest()

    def name(self, picture: int) -> str:
        return self.whole.name(int(self._pictures[picture]))

    def read(self, picture: int) -> np.ndarray:
        return self.whole.readable(int(self._pictures[picture]), self._pictures)

    def __repr__(self) -> str:
        return f"{self.picture_count} of the pictures of {self.whole!r}"


def hold_out(source: PictureSource, share: float) -> tuple[Part, Part]:
    """Divides a source by its pictures' names, whatever their number and order.

    A picture stays where it is when others come or go.

    Args:
      source: at least two pictures.
      share: of those that are held out, above 0 and below 1; at least one is, and one is not.

    Returns:
      The pictures to train on, and those that are held out.

    Raises:
      UsageError: fewer than two pictures.
    """
    count = source.picture_count
    if count < 2:
        raise UsageError(f"{source!r}: expected two pictures or more to hold a share out, got one")
    places = np.array([_place(source.name(picture)) for picture in range(count)])
    held = places < share
    held[places.argmin()], held[places.argmax()] = True, False
    return Part(source, np.flatnonzero(~held)), Part(source, np.flatnonzero(held))


def _place(name: str) -> float:
    """Where a name's hash lies in 0..1."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
