"""Finding the base node that meets a size: the rate budget."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from rcodec_jax.errors import UsageError

_FIRST_SLOPE = -0.008
"""Change of log size a node before two sizes are known: a node is about 1 % of rate."""

_SLOPES = (-0.05, -0.0005)

MAX_CORRECTIONS = 4
"""Most sizes that a search by a sample computes."""

MAX_PROBES = 8
"""Most sizes that a search computes."""


def is_short(size_bytes: float, budget_bytes: float) -> bool:
    """Whether a file is further below its budget than is promised: 2 %, or 16 bytes."""
    return size_bytes < budget_bytes - max(0.02 * budget_bytes, 16)


def why_short(size_bytes: int, budget_bytes: float, finer_bytes: float | None) -> str:
    """What to say of a file that `is_short`, for the user.

    Args:
      size_bytes, budget_bytes: of the file, and what it was meant to be.
      finer_bytes: size at the next finer node, None where there is none.
    """
    budget = f"the budget of {int(budget_bytes)} bytes"
    if finer_bytes is None:
        return (
            f"{budget} is above what this model can use; "
            f"encoded at its best quality, {size_bytes} bytes"
        )
    return (
        f"{budget} cannot be met closely: sizes of this picture jump there, "
        f"from {size_bytes} to {math.ceil(finer_bytes)} bytes"
    )


@dataclass(frozen=True)
class Fit:
    """The outcome of a budget search.

    Attributes:
      base: the chosen node; its size is not above the target.
      at_best: the lowest node fits, so nothing better can be had for a larger target.
    """

    base: int
    at_best: bool = False


def fit_base(
    size_of: Callable[[int], float],
    target_bytes: float,
    node_range: tuple[int, int],
    *,
    tolerance: float = 0.0,
    start: int | None = None,
) -> Fit:
    """The node with the largest size not above the target.

    Sizes fall with the node, nearly exponentially, so the search interpolates the logarithm of
    the size (regula falsi, Illinois variant) between the nearest node that is too big and the
    nearest that fits, and ends when these are neighbours or after MAX_PROBES sizes.

    Of flat pictures they need not: all cells hold about the same value, which trimming drops up to
    one node and keeps from the next (of a grey 512x512, 834 bytes at quality 54, 2,024 at 56, 1,682
    at 60). A file of such a picture may end far below its budget; see `why_short`.

    Args:
      size_of: size of a node in bytes (any real number above 0); must not rise with the node.
      target_bytes: the most that the size may be.
      node_range: lowest and highest node allowed.
      tolerance: a size of at least (1 - tolerance) * target is good enough to stop at.
      start: where to look first; None: half way.

    Returns:
      The fit; `size_of` was called for its base.

    Raises:
      UsageError: the target is not positive, or below the size at the highest node.
    """
    low, high = node_range
    if not low <= high:
        raise UsageError(f"expected a node range, got {low}..{high}")
    if not (target_bytes > 0 and math.isfinite(target_bytes)):
        raise UsageError(f"expected a target of more than 0 bytes, got {target_bytes:g}")
    search = _Search(size_of, float(target_bytes), low, high)
    node = (low + high) // 2 if start is None else min(max(start, low), high)
    while True:
        size = search.probe(node)
        good_enough = (1 - tolerance) * target_bytes <= size <= target_bytes
        if good_enough or search.gap() <= 1 or search.probes >= MAX_PROBES:
            break
        node = search.next_node(MAX_PROBES - search.probes)
    if search.fits > high:
        # Nothing fits. The last probe is always left for the highest node, so it was tried.
        smallest, largest = search.sizes[high], max(search.sizes.values())
        if low not in search.sizes and search.probes < MAX_PROBES:
            largest = search.probe(low)
        raise UsageError(
            f"expected a size within the reachable {math.ceil(smallest)} to "
            f"{math.ceil(largest)} bytes of this image, got {_plain(target_bytes)}"
        )
    return Fit(search.fits, at_best=search.fits == low)


def fit_by_sample(
    size_of: Callable[[int], float],
    roughly: Callable[[int], float],
    target_bytes: float,
    node_range: tuple[int, int],
    *,
    tolerance: float,
    start: int | None = None,
) -> Fit | None:
    """`fit_base` for sizes that take long, by estimates that are off by about the same factor.

    The search goes by the estimates; what the size of the node that it finds is off by corrects
    them. Where they lead to the same node again, it is its neighbour's turn: a node may change the
    size by more than the tolerance. Two sizes are usual where `fit_base` takes six.

    Args:
      size_of, target_bytes, node_range, start: as for `fit_base`.
      roughly: estimates of `size_of`.
      tolerance: a size of at least (1 - tolerance) * target is good enough.

    Returns:
      The fit: within the tolerance, or the node before the one that is above the target; None if
      `MAX_CORRECTIONS` sizes did not find it, or the estimates are out of reach of the target.
    """
    low, high = node_range
    factor, aim = 1.0, (1 - tolerance / 2) * target_bytes
    sizes: dict[int, float] = {}
    for _ in range(MAX_CORRECTIONS):
        known = functools.partial(_times, factor, roughly)
        try:
            base = fit_base(known, aim, node_range, tolerance=tolerance / 4, start=start).base
        except UsageError:
            return None
        step = -1 if sizes.get(base, 0) <= target_bytes else 1
        while base in sizes:
            base += step
        if not low <= base <= high:
            return None
        sizes[base] = size_of(base)
        fits = [node for node, size in sizes.items() if size <= target_bytes]
        if fits:
            best = min(fits)
            near = sizes[best] >= (1 - tolerance) * target_bytes
            if near or best == low or best - 1 in sizes:
                return Fit(best, at_best=best == low)
        factor, start = sizes[base] / roughly(base), base
    return None


def _times(factor: float, of: Callable[[int], float], node: int) -> float:
    return factor * of(node)


class _Search:
    """Sizes known so far, and the bracket: `above` is too big (or low - 1), `fits` is not."""

    def __init__(self, size_of: Callable[[int], float], target: float, low: int, high: int) -> None:
        self._size_of = size_of
        self._target = target
        self._low, self._high = low, high
        self.above, self.fits = low - 1, high + 1
        self.sizes: dict[int, float] = {}
        self._same_side = 0
        self._last_was_above: bool | None = None

    @property
    def probes(self) -> int:
        return len(self.sizes)

    def probe(self, node: int) -> float:
        size = float(self._size_of(node))
        self.sizes[node] = size
        is_above = size > self._target
        if is_above:
            self.above = max(self.above, node)
        else:
            self.fits = min(self.fits, node)
        self._same_side = self._same_side + 1 if is_above == self._last_was_above else 1
        self._last_was_above = is_above
        return size

    def gap(self) -> int:
        return self.fits - self.above

    def next_node(self, probes_left: int) -> int:
        if self.fits > self._high:
            # Nothing fits yet: go up, and never run out of probes before the end was tried.
            wanted = self._extrapolate(self.above, 1)
            node = self._high if probes_left <= 2 or self._same_side >= 3 else wanted
        elif self.above < self._low:
            wanted = self._extrapolate(self.fits, -1)
            node = self._low if probes_left <= 2 or self._same_side >= 3 else wanted
        elif self._same_side >= 4:
            node = (self.above + self.fits) // 2
        else:
            node = self._interpolate()
        return min(max(node, self.above + 1), self.fits - 1)

    def _gain(self, node: int) -> float:
        """Log of size over target: positive where the node is too big a file."""
        return math.log(max(self.sizes[node], 1e-9) / self._target)

    def _extrapolate(self, node: int, direction: int) -> int:
        """Beyond the last node by the last slope, and a little further to close the bracket."""
        others = [other for other in self.sizes if other != node]
        slope = _FIRST_SLOPE
        if others:
            other = min(others, key=lambda known: abs(known - node))
            slope = (self._gain(node) - self._gain(other)) / (node - other)
        slope = min(max(slope, _SLOPES[0]), _SLOPES[1])
        step = abs(self._gain(node) / slope)
        return node + direction * (math.ceil(step * 1.1) + 1)

    def _interpolate(self) -> int:
        above, fits = self._gain(self.above), self._gain(self.fits)
        if self._same_side >= 2:
            # One end has stayed: halving its weight pulls the next node to its side (Illinois).
            if self._last_was_above:
                fits /= 2 ** (self._same_side - 1)
            else:
                above /= 2 ** (self._same_side - 1)
        share = above / (above - fits) if above > fits else 0.5
        step = max(1, math.floor(share * (self.fits - self.above) + 0.5))
        if self._same_side >= 2 and self._last_was_above:
            # Sizes do not fall smoothly: where the root is next to this end, go out by doubling.
            step = max(step, 2 ** (self._same_side - 1))
        return self.above + step


def _plain(size_bytes: float) -> str:
    return f"{size_bytes:.0f}" if size_bytes >= 100 else f"{size_bytes:g}"
