"""How much coarser a background may be: by what its bits buy the region.

At a given size of the file, coarsening the background by a little costs it decibels and frees bits
that bring decibels to the region. One is exchanged for the other at

    rate = (bits that a node more saves outside) / (bits that it saves inside)

as about equally many nodes make a decibel of error on both sides. It is some 6 where a small object
stands before a forest and .7 for a face before a blurred wall, whose background has no bits to
give. It falls as the background becomes coarser, by half for every quarter of `NODE_SPAN`, so that
where to stop goes with its logarithm.
"""

from __future__ import annotations

import math

import numpy as np

from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.quantise import quantise
from rcodec_jax.codec.sample import SAMPLE_SIDE, Blocks, blocks_around, take_blocks
from rcodec_jax.entropy.distributions.rdoq import RDOQ_LAMBDA
from rcodec_jax.levels import NODE_SPAN
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.regions.levelmap import uniform_level_map

_EVEN = 0.75
"""Of NODE_SPAN, twice what half the strength gets where a bit inside is exchanged for one outside.

With `_DOUBLE` fitted to 16 pictures of COCO with their first object: at half the strength the
regions gain what a fixed strength of .59 by PSNR, .55 by SSIMULACRA 2 and .51 by LPIPS-Alex brings
them, for what one of .47 costs the background by PSNR, .48 the picture by SSIMULACRA 2 and .52 by
LPIPS-Alex."""

_DOUBLE = 0.2
"""What each doubling of the rate adds to it."""

_LEAST, _MOST = 0.3, 1.6
"""Somebody asked for a region: it gets some at any rate, and bits elsewhere are not for nothing."""

_PROBES = 0.25, 0.5
"""Where in the model's nodes the rate is measured: it hardly depends on that."""


def exchange_rate(
    bundle: Bundle,
    programs: Programs,
    y: np.ndarray,
    importance: np.ndarray,
    *,
    blocks: Blocks | None = None,
    rdoq_lambda: float = RDOQ_LAMBDA,
) -> float:
    """Bits that a coarser timestep saves where it does not matter, over those where it does.

    Args:
      bundle, programs: the model.
      y: latent of a bucket [h', w', C].
      importance: of the picture's cells, float [h, w] in 0..1.
      blocks: places of a sample to look at instead of all cells; so many more are looked at around
        what matters, which they may miss.
      rdoq_lambda: as for `quantise`.

    Returns:
      A positive number, the nearer to 1 the less the importance differs.
    """
    least, most = float(importance.min()), float(importance.max())
    if least == most:
        return 1.0
    inside = (importance - least) / (most - least)
    low, high = bundle.config.node_range
    probes = [round(low + share * (high - low)) for share in _PROBES]

    def saved(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Bits that each cell [h, w] saves from one probe to the other."""
        fine, coarse = (
            quantise(
                bundle,
                programs,
                y,
                uniform_level_map(*shape, node=node),
                rdoq_lambda=rdoq_lambda,
            ).bits_y
            for node in probes
        )
        return np.maximum(fine - coarse, 0)

    def estimate(weight: np.ndarray, blocks: Blocks) -> float:
        """Bits that all cells save, times their weight, by a sample."""
        here, own = (take_blocks(x, blocks, SAMPLE_SIDE) for x in (y, weight))
        return float((own * saved(here, own.shape)).sum() * weight.sum() / max(own.sum(), 1.0))

    if blocks is None:
        bits = saved(y, inside.shape)
        gained, lost = float((inside * bits).sum()), float(((1 - inside) * bits).sum())
    else:
        gained = estimate(inside, blocks_around(inside > 0.5))
        lost = estimate(1 - inside, blocks)
    return ((lost + 1) / (gained + 1)) ** (most - least)  # a bit each, so that both are some


def span_at(rate: float, strength: float) -> int:
    """Nodes between importance 1 and 0 for an exchange rate and a strength in 0..1.

    At half the strength it is what the rate is worth, at full strength all of `NODE_SPAN`; the odds
    of one are multiplied with those of the other.
    """
    half = min(max(_EVEN + _DOUBLE * math.log2(rate), _LEAST), _MOST) / 2
    share = strength * half / (strength * half + (1 - strength) * (1 - half))
    return round(NODE_SPAN * share)
