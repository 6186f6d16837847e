"""Random level maps for training: one model must serve every map.

A fifth of the maps is uniform, the rest varies over the picture in the ways that users' maps do:
regions, slopes, blobs (QmapCompression, Song et al., ICCV 2021), boxes and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.levels import MAX_LEVELS, NODE_COUNT, level_nodes
from rcodec_jax.regions.levelmap import (
    LevelMap,
    build_level_map,
    quantise_nodes,
    uniform_level_map,
)

FRACTIONS = {"uniform": 0.2, "regions": 0.15, "gradient": 0.15, "blobs": 0.3, "masks": 0.2}
"""Share of each kind of map."""

MAX_SPAN = 500
"""Most nodes between the most and the least important cell of a mask."""

_KINDS = tuple(FRACTIONS)


def draw_kind(rng: np.random.Generator, kinds: Sequence[str] = _KINDS) -> str:
    """A kind of map out of some of FRACTIONS, whose shares they have among themselves."""
    edges = np.cumsum([FRACTIONS[kind] for kind in kinds])
    at = int(np.searchsorted(edges, rng.random() * edges[-1], "right"))
    return kinds[min(at, len(kinds) - 1)]


@dataclass(frozen=True)
class MapSampler:
    """Draws level maps; pass an instance to the loader as `sample_maps`.

    Attributes:
      node_range: lowest and highest node; the end nodes of maps are uniform over it.
      kinds: of maps, out of FRACTIONS; at least one.
    """

    node_range: tuple[int, int]
    kinds: Sequence[str] = _KINDS

    def __post_init__(self) -> None:
        low, high = self.node_range
        if not 0 <= low <= high < NODE_COUNT:
            raise UsageError(f"expected a node range within 0..{NODE_COUNT - 1}, got {low}..{high}")
        if not self.kinds or set(self.kinds) - set(FRACTIONS):
            known = ", ".join(FRACTIONS)
            raise UsageError(f"expected kinds of maps out of {known}, got {self.kinds}")

    def __call__(self, rng: np.random.Generator, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws a map of h x w cells.

        Returns:
          level_map uint8 [h, w] and nodes int32 [16], ascending; unused entries repeat the last.
        """
        drawn = self.sample(rng, h, w)
        return drawn.level_map, drawn.padded_nodes

    def sample(
        self, rng: np.random.Generator, h: int, w: int, *, kind: str | None = None
    ) -> LevelMap:
        """Draws a map as a LevelMap, of a kind named in FRACTIONS or of a random one."""
        if kind is None:
            kind = draw_kind(rng, self.kinds)
        if kind == "uniform" or h * w == 1:
            return uniform_level_map(h, w, node=self._node(rng))
        if kind == "regions":
            return self._regions(rng, h, w)
        if kind == "gradient":
            return self._between(rng, _gradient(rng, h, w))
        if kind == "blobs":
            return self._between(rng, _blobs(rng, h, w))
        if kind == "masks":
            return self._mask(rng, h, w)
        raise UsageError(f"expected a kind out of {', '.join(_KINDS)}, got {kind!r}")

    def _node(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.node_range[0], self.node_range[1] + 1))

    def _regions(self, rng: np.random.Generator, h: int, w: int) -> LevelMap:
        """A random level for each of a few random regions (cells nearest to random points)."""
        count = int(rng.integers(2, 13))
        n_lo, n_hi = sorted((self._node(rng), self._node(rng)))
        # Few levels as often as many: what a user paints has two or three.
        levels = int(rng.integers(2, MAX_LEVELS + 1))
        choices = level_nodes(n_lo, n_hi, levels)[rng.integers(0, levels, count)]
        rows, columns = rng.random((2, count)) * [[h], [w]]
        # Squared distances without the term that is the same for all points.
        vertical = np.arange(h)[:, None] * (-2 * rows) + rows**2
        horizontal = np.arange(w)[:, None] * (-2 * columns) + columns**2
        nearest = (vertical[:, None] + horizontal[None]).argmin(axis=2)
        return quantise_nodes(choices[nearest])

    def _between(self, rng: np.random.Generator, field: np.ndarray) -> LevelMap:
        """Spreads a field of values 0..1 between two random nodes."""
        first, last = self._node(rng), self._node(rng)
        nodes = np.floor(first + (last - first) * field + 0.5).astype(np.int32)
        levels = int(rng.integers(2, MAX_LEVELS + 1))
        # Half the maps have all the levels, as the encoder would make them.
        return quantise_nodes(nodes, levels=MAX_LEVELS if rng.random() < 0.5 else levels)

    def _mask(self, rng: np.random.Generator, h: int, w: int) -> LevelMap:
        """What the encoder makes of boxes, ellipses and soft-edged gaze points."""
        importance = np.zeros((h, w), np.float32)
        soft = rng.random() < 0.25
        for _ in range(int(rng.integers(1, 4))):
            centre = rng.random(2) * (h, w)
            # Log-uniform from a few cells to most of the picture.
            half = 0.5 * np.array((h, w)) * np.exp(rng.uniform(np.log(0.1), np.log(0.8), 2))
            vertical = np.abs(np.arange(h) + 0.5 - centre[0])[:, None] / max(half[0], 0.5)
            horizontal = np.abs(np.arange(w) + 0.5 - centre[1])[None] / max(half[1], 0.5)
            if soft:
                distance = np.sqrt(vertical**2 + horizontal**2)
                shape = 1.0 / (1.0 + np.maximum(distance - 1.0, 0.0))
            elif rng.random() < 0.5:
                shape = np.maximum(vertical, horizontal) <= 1
            else:
                shape = vertical**2 + horizontal**2 <= 1
            importance = np.maximum(importance, shape.astype(np.float32))
        return self.favouring(rng, importance)

    def favouring(self, rng: np.random.Generator, importance: np.ndarray) -> LevelMap:
        """What the encoder makes of importance [h, w] of cells, in 0..1, at a random quality."""
        low, high = self.node_range
        base = self._node(rng)
        if rng.random() < 0.5:
            # Seen from the background: its node is uniform, and the region is above it.
            span = min(int(rng.integers(0, MAX_SPAN + 1)), base - low)
            base -= span
        else:
            span = min(int(rng.integers(0, MAX_SPAN + 1)), high - base)
        return build_level_map(importance, base=base, span=span, node_range=self.node_range)


def _gradient(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A slope in a random direction, from 0 to 1 over the map: float64 [h, w]."""
    angle = rng.random() * 2 * np.pi
    field = np.sin(angle) * np.arange(h)[:, None] + np.cos(angle) * np.arange(w)[None]
    return _stretch(field)


def _blobs(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A sum of Gaussian blobs of random place, size and sign, stretched to 0..1: [h, w]."""
    count = int(rng.integers(1, 7))
    centre = rng.random((2, count)) * [[h], [w]]
    # Standard deviations log-uniform from 5 to 50 % of the sides, at least half a cell.
    sigma = np.exp(rng.uniform(np.log(0.05), np.log(0.5), (2, count))) * [[h], [w]]
    sigma = np.maximum(sigma, 0.5)
    height = rng.uniform(0.3, 1.0, count) * rng.choice((-1.0, 1.0), count)
    rows = np.exp(-0.5 * ((np.arange(h)[:, None] + 0.5 - centre[0]) / sigma[0]) ** 2)
    columns = np.exp(-0.5 * ((np.arange(w)[:, None] + 0.5 - centre[1]) / sigma[1]) ** 2)
    return _stretch((rows * height) @ columns.T)


def _stretch(field: np.ndarray) -> np.ndarray:
    low, high = field.min(), field.max()
    return (field - low) / (high - low) if high > low else np.zeros_like(field)
