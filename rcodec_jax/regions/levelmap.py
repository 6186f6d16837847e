"""Importance to levels: which timestep node each latent cell gets.

See the package's README, "Timesteps of cells".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX, MAX_LEVELS, NODE_COUNT, level_nodes

ROUNDING = 1e-5
"""How far importance may be beyond 0..1: what resampling a mask in float32 leaves behind."""


@dataclass(frozen=True)
class LevelMap:
    """The level of every latent cell, and the nodes of the levels.

    Attributes:
      level_map: uint8 [h, w], values below `level_count`; level 0 matters most.
      n_lo: node of level 0.
      n_hi: node of the last level.
      level_count: number of levels, 1..16.
    """

    level_map: np.ndarray
    n_lo: int
    n_hi: int
    level_count: int

    @property
    def nodes(self) -> np.ndarray:
        """Nodes of the levels, int32 [level_count], ascending."""
        return level_nodes(self.n_lo, self.n_hi, self.level_count)

    @property
    def node_map(self) -> np.ndarray:
        """Node of every cell, int32 [h, w]."""
        return self.nodes[self.level_map]

    @property
    def padded_nodes(self) -> np.ndarray:
        """`nodes` as training batches have them, int32 [16]: unused entries repeat the last."""
        nodes = np.full(MAX_LEVELS, self.n_hi, np.int32)
        nodes[: self.level_count] = self.nodes
        return nodes


def cell_shape(height_px: int, width_px: int) -> tuple[int, int]:
    """Latent cells (h, w) of a picture; the last ones may be covered in part."""
    return -(-height_px // CELL_PX), -(-width_px // CELL_PX)


def pool_importance(importance: np.ndarray, h: int, w: int) -> np.ndarray:
    """Importance of each latent cell: the largest of its pixels, so no region is ever cut.

    Args:
      importance: float [H, W] in 0..1 with ceil(H/8) = h and ceil(W/8) = w.
      h: height in cells.
      w: width in cells.

    Returns:
      float32 [h, w].

    Raises:
      UsageError: wrong shape, or values that are not in 0..1.
    """
    importance = np.asarray(importance, np.float32)
    if importance.ndim != 2 or cell_shape(*importance.shape) != (h, w):
        raise UsageError(
            f"expected importance [H, W] of {h}x{w} cells of {CELL_PX} px, "
            f"got shape {list(importance.shape)}"
        )
    importance = checked_importance(importance)
    height, width = importance.shape
    # Repeating the edge adds no new values, so the maximum is over the covered part alone.
    padded = np.pad(importance, ((0, h * CELL_PX - height), (0, w * CELL_PX - width)), mode="edge")
    return padded.reshape(h, CELL_PX, w, CELL_PX).max(axis=(1, 3))


def checked_importance(importance: np.ndarray) -> np.ndarray:
    """Importance without its rounding errors; UsageError unless all is in 0..1 (NaN is not)."""
    low, high = (float(importance.min()), float(importance.max())) if importance.size else (0, 0)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        hint = " (divide a mask of 8 bits by 255)" if 1 < high <= 255 and high == int(high) else ""
        raise UsageError(f"expected importance values in 0..1, got {low:.7g}..{high:.7g}{hint}")
    clipped: np.ndarray = np.clip(importance, 0, 1)
    return clipped


def build_level_map(
    cell_importance: np.ndarray | None,
    *,
    base: int,
    span: float,
    node_range: tuple[int, int] = (0, NODE_COUNT - 1),
    shape: tuple[int, int] | None = None,
) -> LevelMap:
    """Levels from importance: node = clip(base + round(span * (1 - a))), quantised.

    A constant result gives one level, two distinct nodes give two; more get the fewest evenly
    spaced levels that hold them exactly, or 16 of them with each node at its nearest.
    Never less important means never a lower node.

    Args:
      cell_importance: float [h, w] in 0..1; None means 1 everywhere.
      base: node where the importance is 1.
      span: nodes between importance 1 and 0.
      node_range: lowest and highest node that the model was trained for.
      shape: cells (h, w), needed where `cell_importance` is None.

    Raises:
      UsageError: an argument outside its range.
    """
    low, high = node_range
    if not 0 <= low <= high < NODE_COUNT:
        raise UsageError(f"expected a node range within 0..{NODE_COUNT - 1}, got {low}..{high}")
    if not 0 <= span < np.inf:  # NaN neither
        raise UsageError(f"expected a span of at least 0 nodes, got {span}")
    if cell_importance is None:
        if shape is None:
            raise UsageError("expected cell_importance, or the shape of a uniform map")
        return uniform_level_map(*shape, node=min(max(base, low), high))
    importance = checked_importance(np.asarray(cell_importance, np.float64))
    offset = np.floor(span * (1.0 - importance) + 0.5)
    return quantise_nodes(np.clip(base + offset, low, high).astype(np.int32))


def uniform_level_map(h: int, w: int, *, node: int) -> LevelMap:
    """A map with the same node everywhere."""
    return LevelMap(np.zeros((h, w), np.uint8), node, node, 1)


def quantise_nodes(node_map: np.ndarray, *, levels: int = MAX_LEVELS) -> LevelMap:
    """A level map of at most `levels` levels from the wanted node of each cell.

    Args:
      node_map: int [h, w], nodes 0..1023.
      levels: most levels, 1..16; 1 keeps the lowest node everywhere.

    Raises:
      UsageError: levels outside 1..16.
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise UsageError(f"expected 1..{MAX_LEVELS} levels, got {levels}")
    n_lo, n_hi = int(node_map.min()), int(node_map.max())
    if n_lo == n_hi or levels == 1:
        return uniform_level_map(*node_map.shape, node=n_lo)
    count = _level_count(node_map, n_lo, n_hi, levels)
    # The nearest level of every node between the ends, by table: exact and monotone.
    nodes = level_nodes(n_lo, n_hi, count)
    borders = (nodes[:-1] + nodes[1:] + 1) // 2
    return LevelMap(np.searchsorted(borders, node_map, "right").astype(np.uint8), n_lo, n_hi, count)


def _level_count(node_map: np.ndarray, n_lo: int, n_hi: int, levels: int) -> int:
    """The fewest levels that hold every node of the map exactly, else as many as allowed."""
    most = min(levels, n_hi - n_lo + 1)
    present = np.bincount((node_map - n_lo).ravel(), minlength=n_hi - n_lo + 1) > 0
    distinct = int(present.sum())
    if distinct > most:
        return most
    for count in range(distinct, most):
        held = present[level_nodes(n_lo, n_hi, count) - n_lo].sum()
        if held == distinct:
            return count
    return most
