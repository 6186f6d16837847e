"""Hyperprior conditioned on node and importance map (package README, "Entropy model").

`HyperSynthesis` is the differentiable twin of the integer network that real files run: the same
layers in the same order (convolution, leaky rectifier, FiLM by node, depth to space), nothing else,
so that freezing is a matter of fixed-point formats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcodec_jax.levels import NODE_COUNT, nodes_per_class
from rcodec_jax.nn.blocks import Conv, Downsample
from rcodec_jax.ops.densities import logistic_bits
from rcodec_jax.ops.rounding import clip_straight_through, round_straight_through
from rcodec_jax.ops.spatial import depth_to_space
from rcodec_jax.passes import CONTEXTS, hyper_order

LOG_SCALE_MIN, LOG_SCALE_MAX = -5.0, 6.0
"""Log scales of the static prior of z are clipped to this range wherever they are used."""

NEGATIVE_SLOPE = 0.125
"""Slope of the leaky rectifier, a power of two so that integers can follow it."""


def leaky_relu(x: jax.Array) -> jax.Array:
    """max(x, x / 8)."""
    return jnp.maximum(x, x * NEGATIVE_SLOPE)


class NodeRows(nn.Module):
    """A table by node: gain and offset of a FiLM layer.

    A small network of the node, so that neighbours agree; freezing writes out all 1024 rows.
    """

    features: int
    hidden: int = 64

    @nn.compact
    def __call__(self, nodes: jax.Array) -> jax.Array:
        """nodes integers [B, L] -> [B, L, 2 * features], gain (about 1) then offset (about 0)."""
        # Smooth in the node: the shortest period is an eighth of the range.
        x = nodes.astype(jnp.float32) / (NODE_COUNT - 1)
        orders = math.pi * jnp.arange(1, 9, dtype=jnp.float32).reshape((1,) * x.ndim + (8,))
        angles = x[..., None] * orders
        x = jnp.concatenate([x[..., None], jnp.cos(angles), jnp.sin(angles)], axis=-1)
        x = nn.silu(nn.Dense(self.hidden, name="linear_1")(x))
        rows = nn.Dense(2 * self.features, kernel_init=nn.initializers.zeros, name="linear_2")(x)
        gain, offset = jnp.split(rows, 2, axis=-1)
        return jnp.concatenate([1.0 + gain, offset], axis=-1)


def film(x: jax.Array, rows: jax.Array, occupancy: jax.Array) -> jax.Array:
    """x * gain + offset, the rows [B, L, 2C] mixed by occupancy [B, h, w, L]."""
    gain, offset = jnp.split(jnp.einsum("bhwl,blc->bhwc", occupancy, rows), 2, axis=-1)
    return x * gain + offset


class HyperAnalysis(nn.Module):
    """Latent, timesteps and importance -> hyper-latent; float, run by encoders only."""

    features: int
    hyper_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, y: jax.Array, nodes: jax.Array, level_map: jax.Array, occupancy: Sequence[jax.Array]
    ) -> jax.Array:
        """What the encoder tells the entropy model.

        Args:
          y: latent [B, h, w, C], h and w multiples of 4.
          nodes: node of each level [B, L].
          level_map: integers [B, h, w].
          occupancy: shares of the levels at strides 1, 2 and 4.

        Returns:
          z before rounding, [B, h/4, w/4, hyper_channels].
        """
        position = nodes.astype(jnp.float32) / (NODE_COUNT - 1) * 2.0 - 1.0  # [B, L]
        node_map = jnp.einsum("bhwl,bl->bhw", occupancy[0], position)[..., None]
        x = jnp.concatenate([y, node_map], axis=-1).astype(self.dtype)
        x = Conv(self.features, dtype=self.dtype, name="conv_in")(x)
        for i in range(2):
            x = nn.silu(film(x, NodeRows(self.features, name=f"rows_{i}")(nodes), occupancy[i]))
            x = Downsample(self.features, dtype=self.dtype, name=f"down_{i}")(x)
        x = nn.silu(film(x, NodeRows(self.features, name="rows_2")(nodes), occupancy[2]))
        x = Conv(self.hyper_channels, dtype=self.dtype, name="conv_out")(x)
        # How much z is worth depends on the rate of y, so the node may scale it down to nothing.
        x = film(x, NodeRows(self.hyper_channels, name="rows_out")(nodes), occupancy[2])
        return x.astype(jnp.float32)


class HyperSynthesis(nn.Module):
    """Hyper-latent, nodes and importance -> Gaussian prior of the clean latent.

    Attributes:
      channels: widths at strides 4, 2 and 1.
      latent_channels: C.
      log2_sigma: what the prior's log2 sigma starts from, by channel; None for zero.

    Every activation's largest magnitude is sown into the collection "ranges", in layer order;
    freezing chooses fixed-point formats from them.
    """

    channels: tuple[int, int, int]
    latent_channels: int
    log2_sigma: tuple[float, ...] | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, nodes: jax.Array, occupancy: Sequence[jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """z integers as float [B, h/4, w/4, Z] -> mean, log2 sigma [B, h, w, C], of the clean y."""

        def track(name: str, x: jax.Array) -> jax.Array:
            self.sow("ranges", f"{name}_out", jnp.max(jnp.abs(x)), reduce_fn=lambda _, new: new)
            return x

        def stage(x: jax.Array, i: int, shares: jax.Array, *, upsample: bool) -> jax.Array:
            features = self.channels[i]
            width = 4 * features if upsample else features
            x = track(f"conv_{i}", Conv(width, name=f"conv_{i}")(x))
            x = depth_to_space(x, 2) if upsample else x
            rows = NodeRows(features, name=f"rows_{i}")(nodes)
            return track(f"film_{i}", film(leaky_relu(x), rows, shares))

        x = stage(z, 0, occupancy[2], upsample=False)
        x = stage(x, 1, occupancy[1], upsample=True)
        x = stage(x, 2, occupancy[0], upsample=True)
        x = leaky_relu(track("conv_3", Conv(self.channels[2], name="conv_3")(x)))
        # The prior starts as N(0, sigma), the same everywhere.
        start = self.log2_sigma and (0.0,) * self.latent_channels + self.log2_sigma
        x = Conv(2 * self.latent_channels, zero_init=True, bias=start, name="conv_4")(x)
        mean, log2_sigma = jnp.split(x, 2, axis=-1)
        return mean, log2_sigma


class HyperContext(nn.Module):
    """Sharpens the prior of the latent's second half by its first half, coded before.

    As `HyperSynthesis` it is the twin of an integer network, and sows its ranges.

    Attributes:
      width: channels within.
      latent_channels: C.
    """

    width: int
    latent_channels: int

    @nn.compact
    def __call__(
        self, prior: jax.Array, value: jax.Array, nodes: jax.Array, occupancy: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Differences of mean and log2 sigma.

        Args:
          prior: mean and log2 sigma as z gives them [B, h, w, 2C].
          value: what is known of the first half: the best linear estimate of y - mean from its
            dequantised value, [B, h, w, C], 0 at the second half.
          nodes: node of each level [B, L].
          occupancy: shares of the levels [B, h, w, L].

        Returns:
          Two arrays [B, h, w, C], of use at the second half only.
        """

        def track(name: str, x: jax.Array) -> jax.Array:
            name = f"context_{name}_out"
            self.sow("ranges", name, jnp.max(jnp.abs(x)), reduce_fn=lambda _, new: new)
            return x

        x = jnp.concatenate([prior, value], axis=-1)
        x = leaky_relu(track("conv_0", Conv(self.width, name="conv_0")(x)))
        x = track("film_0", film(x, NodeRows(self.width, name="rows_0")(nodes), occupancy))
        x = leaky_relu(track("conv_1", Conv(self.width, name="conv_1")(x)))
        x = Conv(2 * self.latent_channels, zero_init=True, name="conv_2")(x)
        mean, log2_sigma = jnp.split(x, 2, axis=-1)
        return mean, log2_sigma


class HyperPrior(nn.Module):
    """Prior of z: one logistic per (channel, class of nodes), and by neighbours where they count.

    Attributes:
      hyper_channels: Z.
      classes: number of classes the 1024 nodes are divided into evenly.
      neighbours: whether z goes from coarse to fine (`passes.hyper_order`): the mean of an
        element's four neighbours, times a weight of its channel, is its prediction, and their
        spread chooses the logistic.
    """

    hyper_channels: int
    classes: int
    neighbours: bool = False

    def setup(self) -> None:
        contexts = (CONTEXTS,) if self.neighbours else ()
        shape = (self.classes, *contexts, self.hyper_channels)
        self.mean = self.param("mean", nn.initializers.zeros, shape)
        self.log_scale = self.param("log_scale", nn.initializers.constant(-0.5), shape)
        if self.neighbours:
            self.weight = self.param("weight", nn.initializers.zeros, (self.hyper_channels,))

    def __call__(self, z: jax.Array, node: jax.Array, rounded: jax.Array) -> jax.Array:
        """Bits of each element.

        Args:
          z: integers, or values with uniform noise, [B, h, w, Z].
          node: lowest node under each cell, integers [B, h, w].
          rounded: z as the neighbours are known, integers with straight-through gradients.

        Returns:
          [B, h, w, Z].
        """
        row = node // nodes_per_class(self.classes)
        scale = jnp.exp(clip_straight_through(self.log_scale, LOG_SCALE_MIN, LOG_SCALE_MAX))
        if not self.neighbours:
            return logistic_bits(z - self.mean[row], scale[row])
        batch, height, width, channels = z.shape
        number, corners = hyper_order(height, width)
        flat = rounded.reshape(batch, height * width, channels)
        around = jnp.stack([flat[:, corner.reshape(-1)] for corner in corners])
        around = around.reshape(4, *z.shape)
        refined = jnp.asarray(number > 0)[None, :, :, None]
        mean = jnp.mean(around, axis=0) * self.weight.reshape(1, 1, 1, -1)
        predicted = jnp.where(refined, round_straight_through(mean), 0.0)
        spread = jax.lax.stop_gradient(jnp.max(around, axis=0) - jnp.min(around, axis=0))
        context = jnp.where(refined, 1 + jnp.clip(spread, 0, CONTEXTS - 2), 0).astype(jnp.int32)
        chosen = (row[..., None], context, jnp.arange(channels).reshape(1, 1, 1, -1))
        return logistic_bits(z - predicted - self.mean[chosen], scale[chosen])
