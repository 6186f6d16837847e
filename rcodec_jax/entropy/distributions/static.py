"""Static tables of the hyper-latents by (channel, class of the cell's node)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcodec_jax.entropy.coder.tables import TableBank, integer_frequencies
from rcodec_jax.errors import BundleError


class StaticTables:
    """Integer tables of total 2^16 with escapes.

    Args:
      minimum: int [channels, classes], least listed value of each table.
      count: int [channels, classes], listed values.
      freq: int [sum(count)], frequencies, channel after channel, class after class.

    Raises:
      BundleError: wrong shapes or contents.
    """

    def __init__(self, minimum: np.ndarray, count: np.ndarray, freq: np.ndarray) -> None:
        if minimum.ndim != 2 or minimum.size == 0 or count.shape != minimum.shape:
            raise BundleError(
                f"static tables: expected [channels, classes] twice, got {minimum.shape} and "
                f"{count.shape}"
            )
        if minimum.shape[1] > 256:
            raise BundleError(f"static tables: at most 256 classes, got {minimum.shape[1]}")
        if freq.ndim != 1:
            raise BundleError(f"static tables: frequencies must be flat, got {freq.shape}")
        self.channels, self.classes = (int(n) for n in minimum.shape)
        self.bank = TableBank(minimum, count, freq)

    @classmethod
    def build(cls, pmfs: Sequence[Sequence[tuple[int, np.ndarray]]]) -> StaticTables:
        """Makes the tables, once, at freezing (float arithmetic).

        Args:
          pmfs: pmfs[channel][class] = (least value, float64 probabilities); what is missing to a
            sum of 1 goes to the escape.

        Raises:
          BundleError: ragged classes or bad probabilities.
        """
        classes = {len(row) for row in pmfs}
        if len(classes) != 1 or 0 in classes:
            raise BundleError(f"static tables: every channel needs the same classes, got {classes}")
        shape = (len(pmfs), classes.pop())
        minimum = np.array([[least for least, _ in row] for row in pmfs], np.int64).reshape(shape)
        tables = []
        for row in pmfs:
            for _, probabilities in row:
                p = np.asarray(probabilities, np.float64)
                outside = min(max(1.0 - float(p.sum()), 0.0), 1.0)
                tables.append(integer_frequencies(p, outside))
        count = np.array([t.size for t in tables], np.int64).reshape(shape)
        return cls(minimum, count, np.concatenate(tables))

    def select(self, cell_class: np.ndarray) -> np.ndarray:
        """Table of each symbol of a grid: int64 [hz, wz, channels] from classes int [hz, wz]."""
        channel = np.arange(self.channels, dtype=np.int64) * self.classes
        return cell_class.astype(np.int64)[:, :, None] + channel

    def bits(self, cell_class: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Ideal code length of z [hz, wz, channels], escapes included: float64, same shape."""
        return self.bank.bits(self.select(cell_class), z)
