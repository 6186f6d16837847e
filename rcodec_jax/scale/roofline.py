"""How fast a step could be at best: the slowest of compute, memory and links, at their peaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from rcodec_jax.scale.chips import Chip
from rcodec_jax.scale.collectives import Collective


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that each part of a chip needs for one step (Williams et al. 2009).

    Attributes:
      compute: for its share of the FLOPs.
      memory: for the traffic of its HBM.
      links: for what it sends to the other chips of its slice.
      network: for what it sends to other slices.
    """

    compute: float
    memory: float
    links: float
    network: float

    @property
    def step(self) -> float:
        """Seconds of a step in which everything overlaps: no step is shorter."""
        return max(self.compute, self.memory, self.links, self.network)

    @property
    def without_overlap(self) -> float:
        """Seconds of a step in which compute and memory overlap, and nothing else does."""
        return max(self.compute, self.memory) + self.links + self.network

    @property
    def limit(self) -> str:
        """What the step waits for: "compute", "memory", "links" or "network"."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(
    chip: Chip, *, flops: float, traffic_bytes: float, collectives: Iterable[Collective]
) -> Roofline:
    """The bound of one step on one chip.

    Args:
      chip: what it has.
      flops: operations of one chip.
      traffic_bytes: read from and written to its memory.
      collectives: of the program.
    """
    rows = list(collectives)
    return Roofline(
        compute=flops / chip.peak_flops,
        memory=traffic_bytes / chip.memory_bandwidth,
        links=sum(row.sent_bytes() for row in rows) / chip.link_bandwidth,
        network=sum(row.sent_between_slices_bytes() for row in rows) / chip.network_bandwidth,
    )
