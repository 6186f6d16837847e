"""Running statistics of a run, and the scaling of latents by them while they still move.

The codec wants latents of zero mean and unit variance. The mean is removed by channel; the
variance is brought to one on average over channels, not in each: how much of the variance a
channel gets is how the encoder says how many bits it is worth (reverse water-filling).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

DECAY = 0.99
RANGE_DECAY = 0.999
MIN_POWER = 1e-6


@flax.struct.dataclass
class Stats:
    """Running statistics that freezing needs; no gradient ever sees them.

    Attributes:
      shift: mean of the encoder's output by channel [C].
      power: its variance, averaged over channels [].
      ranges: largest magnitude of each activation of the hyper-synthesis.
    """

    shift: jax.Array
    power: jax.Array
    ranges: dict[str, jax.Array]


def scale(raw: jax.Array, stats: Stats) -> jax.Array:
    """Encoder output -> y, by the running statistics: (raw - shift) / sqrt(power)."""
    return (raw - stats.shift.reshape(1, 1, 1, -1)) * jax.lax.rsqrt(stats.power)


def unscale(y: jax.Array, stats: Stats) -> jax.Array:
    """The inverse of `scale`."""
    return y * jnp.sqrt(stats.power) + stats.shift.reshape(1, 1, 1, -1)


def scale_in_training(raw: jax.Array, stats: Stats) -> jax.Array:
    """`scale` in the forward pass; its gradient cannot change the batch's overall scale.

    The rate would otherwise be bought down, or quality up, by drifting in scale, which the running
    statistics would undo a moment later. (The device is that of batch renormalisation, Ioffe 2017.)
    """
    power = jnp.mean(jnp.var(raw, axis=(0, 1, 2))) + MIN_POWER
    ratio = jax.lax.stop_gradient(jnp.sqrt(power)) * jax.lax.rsqrt(power)
    return scale(raw, stats) * ratio


class Observed(NamedTuple):
    """What a batch adds to the statistics; None is what its stage leaves alone.

    Attributes:
      shift: mean of the encoder's output by channel [C].
      power: its variance, averaged over channels [].
      ranges: largest magnitudes in the hyper-synthesis.
    """

    shift: jax.Array | None
    power: jax.Array | None
    ranges: dict[str, jax.Array] | None


def observe(raw: jax.Array | None, ranges: dict[str, jax.Array] | None) -> Observed:
    """Of the encoder's output [B, h, w, C] and the hyper-synthesis; no gradient goes through."""
    raw, ranges = jax.lax.stop_gradient((raw, ranges))
    if raw is None:
        return Observed(None, None, ranges)
    return Observed(jnp.mean(raw, axis=(0, 1, 2)), jnp.mean(jnp.var(raw, axis=(0, 1, 2))), ranges)


def pooled(parts: Observed) -> Observed:
    """One batch's of the parts it was divided into, stacked along a first axis."""
    shift, power, ranges = parts
    if shift is not None and power is not None:
        between = jnp.mean(jnp.var(shift, axis=0))
        shift, power = jnp.mean(shift, axis=0), jnp.mean(power) + between
    return Observed(shift, power, jax.tree.map(lambda x: jnp.max(x, axis=0), ranges))


def update(
    stats: Stats,
    observed: Observed,
    step: jax.Array,
    *,
    rescale: bool = True,
    warm: bool = False,
) -> Stats:
    """Statistics after one more batch.

    Args:
      stats: those before.
      observed: of the batch; a range falls slowly and rises at once.
      step: finished steps; the first ones weigh more, unless the run is `warm`.
      rescale: whether shift and power follow the encoder.
      warm: whether the run began from an earlier model, whose statistics hold.
    """
    decay = DECAY if warm else jnp.minimum(DECAY, (1.0 + step) / (10.0 + step))
    shift, power = stats.shift, stats.power
    if rescale and observed.shift is not None and observed.power is not None:
        shift = decay * shift + (1.0 - decay) * observed.shift
        power = decay * power + (1.0 - decay) * observed.power
        power = jnp.maximum(power, MIN_POWER)
    tracked = dict(stats.ranges)
    if observed.ranges is not None:
        tracked = {
            name: jnp.maximum(RANGE_DECAY * old, observed.ranges[name])
            for name, old in stats.ranges.items()
        }
    return Stats(shift, power, tracked)
