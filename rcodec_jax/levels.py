"""Levels: the at most sixteen timestep nodes that one file carries (FORMAT.md, section 2).

A leaf module: the formula and the numbers belong to the file format and to training alike.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

NODE_COUNT = 1024
"""Frozen timestep nodes, uniform in log2 of the quantiser's scale; 0 is the finest."""

HIDDEN_NODE = NODE_COUNT // 2
"""What the entropy model sees as a picture's timestep where an ablation hides it."""

MAX_LEVELS = 16
"""Most levels that one file can carry."""

MAX_CLASSES = 256
"""Most classes of nodes: frozen models number them in a byte."""

CELL_PX = 8
"""Side of a latent cell in pixels."""

HYPER_STRIDE = 4
"""Side of a hyper-latent's cell in latent cells."""

NODE_SPAN = 400
"""Most nodes between the most and the least important cell; training saw up to 500."""

DEFAULT_STRENGTH = 0.5
"""Strength of a region where nobody says: about four fifths of what full strength brings it, at
less than half of what that costs the background."""

SCALE_MIN = 0.01
"""Smallest s sigma of the Gaussian tables (FORMAT.md, section 6)."""

SCALE_MAX = 64.0
"""Largest s sigma of the Gaussian tables."""


class Levels(Protocol):
    """The level of each latent cell and the timestep node of each level.

    Attributes:
      nodes: int [L], ascending, 0..1023.
      level_map: int [h, w], 0..L-1.
    """

    @property
    def nodes(self) -> np.ndarray: ...

    @property
    def level_map(self) -> np.ndarray: ...


def level_nodes(n_lo: int, n_hi: int, count: int) -> np.ndarray:
    """Nodes of the levels of a file, in integer arithmetic.

    Args:
      n_lo: node of level 0 (the most important one), 0..1023.
      n_hi: node of the last level, n_lo..1023.
      count: number of levels L, 1..16.

    Returns:
      int32 [L], ascending from n_lo to n_hi.

    Raises:
      ValueError: a value outside its range.
    """
    if not 1 <= count <= MAX_LEVELS:
        raise ValueError(f"level count must be 1..{MAX_LEVELS}, got {count}")
    if not 0 <= n_lo <= n_hi < NODE_COUNT:
        raise ValueError(f"need 0 <= n_lo <= n_hi < {NODE_COUNT}, got {n_lo} and {n_hi}")
    if count == 1:
        return np.array([n_lo], np.int32)
    last = count - 1
    index = np.arange(count, dtype=np.int32)
    return ((n_lo * (last - index) + n_hi * index + last // 2) // last).astype(np.int32)


def seen_nodes(nodes: Any, *, see_node: bool, see_map: bool) -> Any:
    """Nodes that the entropy model sees in place of those of the levels (ablations).

    The middle of a picture's range of nodes is its timestep, and what sets each level apart from it
    is its map. A hidden timestep is that of `HIDDEN_NODE` in every picture, a hidden map that of
    one level. (The quantiser goes by the nodes as they are.)

    Args:
      nodes: integers [..., L], ascending; of NumPy or of JAX.
      see_node: whether timesteps are seen.
      see_map: whether maps are.

    Returns:
      Integers [..., L], ascending, 0..1023.
    """
    if see_node and see_map:
        return nodes
    middle = (nodes[..., :1] + nodes[..., -1:]) // 2
    apart = nodes - middle
    seen = (middle if see_node else HIDDEN_NODE) + (apart if see_map else 0 * apart)
    return seen.clip(0, NODE_COUNT - 1)


def nodes_per_class(classes: int) -> int:
    """Neighbouring nodes that share static tables: node n is of class n // nodes_per_class.

    Args:
      classes: a divisor of 1024, at most 256; `HyperConfig` sees to that.
    """
    return NODE_COUNT // classes
