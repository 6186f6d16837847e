"""Hyper-latents as symbols: the table of each and, from coarse to fine, what its neighbours say.

A part with weights codes z on ever finer grids (`passes.hyper_order`). From the second grid on, the
mean of an element's four neighbours times a weight of its channel is its prediction, what is coded
is the difference, and the neighbours' spread chooses the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rcodec_jax.entropy.coder.tables import SYMBOL_LIMIT
from rcodec_jax.entropy.distributions.static import StaticTables
from rcodec_jax.errors import CorruptPayloadError
from rcodec_jax.passes import CONTEXTS, STRIDES, WEIGHT_BITS, hyper_order

_SHIFT = WEIGHT_BITS + 2  # of a weight times the sum of four

Read = Callable[[np.ndarray], np.ndarray]
"""Tables int64 [n] -> the next n symbols, int [n]."""


def coding_order(weight: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """Cells in the order they are coded in, as indices into the flat grid: int64 [h w]."""
    if weight is None:
        return np.arange(height * width)
    return np.argsort(hyper_order(height, width)[0], axis=None, kind="stable")


def to_symbols(
    tables: StaticTables, weight: np.ndarray | None, cell_class: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is coded of each hyper-latent and under which table.

    Args:
      tables: static tables.
      weight: int16 [Cz], or None for symbols that are z itself.
      cell_class: int [hz, wz].
      z: int [hz, wz, Cz].

    Returns:
      (symbols, tables), int64 [hz, wz, Cz] each.
    """
    if weight is None:
        return z.astype(np.int64), tables.select(cell_class)
    height, width, channels = z.shape
    number, corners = hyper_order(height, width)
    flat = z.reshape(-1, channels).astype(np.int64)
    predicted, context = _predict(flat, weight, corners.reshape(4, -1), number.reshape(-1))
    chosen = tables.select(cell_class * CONTEXTS).reshape(flat.shape) + context
    return (flat - predicted).reshape(z.shape), chosen.reshape(z.shape)


def from_symbols(
    tables: StaticTables, weight: np.ndarray | None, cell_class: np.ndarray, read: Read
) -> np.ndarray:
    """Hyper-latents from their symbols.

    Args:
      tables, weight, cell_class: as for `to_symbols`.
      read: gives the next symbols under their tables.

    Returns:
      int32 [hz, wz, Cz].

    Raises:
      CorruptPayloadError: a hyper-latent outside +-(2^15 - 1).
    """
    chosen = tables.select(cell_class if weight is None else cell_class * CONTEXTS)
    if weight is None:
        return read(chosen.reshape(-1)).reshape(chosen.shape).astype(np.int32)
    height, width, channels = chosen.shape
    number, corners = (a.reshape(-1, height * width) for a in hyper_order(height, width))
    chosen = chosen.reshape(-1, channels)
    z = np.zeros(chosen.shape, np.int64)
    for i in range(len(STRIDES)):
        cells = np.flatnonzero(number[0] == i)
        predicted, context = _predict(z, weight, corners[:, cells], number[0, cells])
        symbols = read((chosen[cells] + context).reshape(-1))
        z[cells] = symbols.reshape(predicted.shape) + predicted
        if cells.size and np.abs(z[cells]).max() >= SYMBOL_LIMIT:
            raise CorruptPayloadError("a hyper-latent is not within +-32767")
    return z.reshape(height, width, channels).astype(np.int32)


def _predict(
    z: np.ndarray, weight: np.ndarray, corners: np.ndarray, number: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and context [n, Cz] of n cells.

    Args:
      z: int64 [cells, Cz]; of it only the corners count.
      weight: int16 [Cz].
      corners: int [4, n]; number: int [n], pass of each cell.
    """
    around = z[corners]
    predicted = (around.sum(axis=0) * weight + (1 << (_SHIFT - 1))) >> _SHIFT
    spread = around.max(axis=0) - around.min(axis=0)
    context = 1 + np.minimum(spread, CONTEXTS - 2)
    refined = (number > 0)[:, None]
    return np.where(refined, predicted, 0), np.where(refined, context, 0)
