"""The quantiser that files have, differentiably: dither, trimming, and the rate of given tables."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.diffusion.estimates import centroid, sigma_level, wiener_share
from rcodec_jax.entropy.distributions.centroids import Centroids
from rcodec_jax.entropy.distributions.dither import dither_values
from rcodec_jax.entropy.distributions.gaussian import (
    DITHER_POINTS,
    SIGMA_LEVELS,
    GaussianTables,
    sigma_of_level,
)
from rcodec_jax.entropy.distributions.rdoq import (
    RDOQ_LAMBDA,
    expected_quantiser,
    expected_tables,
    rdoq,
)
from rcodec_jax.ops.densities import laplace_bits

LARGEST = 31
"""Integers beyond it in magnitude are kept as they are, at the rate of theory."""

_WIDTH = 2 * LARGEST + 1
_GRID = 8  # points per step of the slopes
_REACH = _GRID * LARGEST + 1


class Tables(NamedTuple):
    """What `Trimmed` knows of an encoder, float32.

    Attributes:
      lengths: code lengths [64 levels of sigma x 64 dithers x 63 integers].
      rate, gain: slopes along |v| of the mean over the dither, of the code length and of what a
        file gives back, [64 levels x points every 1/8].
      centroids: what each |j - g| stands for, [64 levels x 192]; None for linear estimates.
      back: slopes, as above, of the centroid.
    """

    lengths: jax.Array | np.ndarray
    rate: jax.Array | np.ndarray
    gain: jax.Array | np.ndarray
    centroids: jax.Array | np.ndarray | None = None
    back: jax.Array | np.ndarray | None = None


class Trimmed(NamedTuple):
    """Dithered quantisation whose integers are chosen as by `entropy.distributions.rdoq`.

    Neither what comes back nor its length has a gradient in v; the gradients are those of their
    means over the dither. Trimming makes them far from straight through: 0 where sigma is small,
    steeper than 1 where integers begin to be worth their bits. In log2 sigma the length goes
    linearly from table to table.

    Attributes:
      tables: of the encoder.
      dither: index 0..63 of each latent, integers [B, h, w, C].
      rdoq_lambda: bits per squared step.
    """

    tables: Tables
    dither: jax.Array
    rdoq_lambda: jax.Array | float

    def error(self, v: jax.Array, sigma: jax.Array) -> jax.Array:
        """What dither, rounding and trimming add to v."""
        fixed, deviation = jax.lax.stop_gradient((v, sigma))
        g = self._values
        first = jnp.floor(fixed + g + 0.5)
        level = jnp.floor(sigma_level(deviation, SIGMA_LEVELS) + 0.5).astype(jnp.int32)

        def cost(j: jax.Array) -> jax.Array:
            error = self._taken_for(j - g, deviation) - fixed
            return self._length(level, j) + self.rdoq_lambda * jnp.square(error)

        best, least = first, cost(first)
        for less in (1.0, 2.0):
            other = first - jnp.sign(first) * jnp.minimum(less, jnp.abs(first))
            other_cost = cost(other)
            best, least = (
                jnp.where(other_cost < least, new, old)
                for new, old in ((other, best), (other_cost, least))
            )
        e = jnp.where(jnp.abs(first) <= LARGEST, best, first) - g - fixed
        return e + (self._slope(self.tables.gain, fixed, deviation) - 1.0) * (v - fixed)

    def estimate(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """What decoders take v + e for."""
        if self.tables.centroids is None or self.tables.back is None:
            return wiener_share(sigma) * (v + e)
        fixed, error, deviation = jax.lax.stop_gradient((v, e, sigma))
        taken = self._taken_for(fixed + error, deviation)
        return taken + self._slope(self.tables.back, fixed, deviation) * (v - fixed)

    def bits(self, v: jax.Array, e: jax.Array, sigma: jax.Array) -> jax.Array:
        """Code lengths of the integers behind v + e."""
        fixed, deviation = jax.lax.stop_gradient((v, sigma))
        j = jnp.floor(fixed + jax.lax.stop_gradient(e) + self._values + 0.5)
        position = sigma_level(sigma, SIGMA_LEVELS)
        below = jnp.clip(jnp.floor(sigma_level(deviation, SIGMA_LEVELS)), 0, SIGMA_LEVELS - 2)
        level, share = below.astype(jnp.int32), position - below
        length = (1 - share) * self._length(level, j) + share * self._length(level + 1, j)
        slope = jnp.sign(fixed) * self._slope(self.tables.rate, fixed, deviation)
        length += slope * (v - fixed)
        return jnp.where(jnp.abs(j) <= LARGEST, length, laplace_bits(v + e, sigma))

    @property
    def _values(self) -> jax.Array:
        return values_of(self.dither)

    def _taken_for(self, u: jax.Array, sigma: jax.Array) -> jax.Array:
        if self.tables.centroids is None:
            return wiener_share(sigma) * u
        return centroid(jnp.asarray(self.tables.centroids), u, sigma)

    def _length(self, level: jax.Array, j: jax.Array) -> jax.Array:
        k = jnp.clip(j, -LARGEST, LARGEST).astype(jnp.int32) + LARGEST
        at = (level * DITHER_POINTS + self.dither.astype(jnp.int32)) * _WIDTH + k
        return jnp.take(jnp.asarray(self.tables.lengths), at, mode="clip")

    def _slope(self, slopes: jax.Array | np.ndarray, v: jax.Array, sigma: jax.Array) -> jax.Array:
        level = jnp.floor(sigma_level(sigma, SIGMA_LEVELS) + 0.5).astype(jnp.int32)
        point = jnp.minimum(jnp.floor(jnp.abs(v) * _GRID + 0.5), _REACH - 1).astype(jnp.int32)
        return jnp.take(jnp.asarray(slopes), level * _REACH + point, mode="clip")


def tables_of(
    gaussian: GaussianTables, rdoq_lambda: float, centroids: Centroids | None = None
) -> Tables:
    """What an encoder with these tables, this lambda and these centroids does."""
    shape = (SIGMA_LEVELS, DITHER_POINTS, _WIDTH)
    level, dither, k = (axis.reshape(-1) for axis in np.indices(shape))
    bits = gaussian.bits(level.astype(np.uint8), dither.astype(np.uint8), k - LARGEST)
    rate, gain, back = (np.zeros((SIGMA_LEVELS, _REACH)) for _ in range(3))
    index, at = np.indices((DITHER_POINTS, _REACH + 2))
    index, v = index.astype(np.uint8), at / _GRID - 1 / _GRID
    g = dither_values(index)
    first = np.floor(v + g + 0.5).astype(np.int64)
    for number in range(SIGMA_LEVELS):
        sigma, levels = np.full(v.shape, sigma_of_level(number)), np.full(v.shape, number, np.uint8)
        length = gaussian.bits(levels, index, first)
        j, length = rdoq(
            first, v, sigma, length, gaussian, levels, index,
            rdoq_lambda=rdoq_lambda, centroids=centroids,
        )  # fmt: skip
        taken = j - g if centroids is None else centroids.estimate(levels, j - g)
        for slopes, value in ((rate, length), (gain, j - g), (back, taken)):
            mean = value.mean(axis=0)
            slopes[number] = (mean[2:] - mean[:-2]) * _GRID / 2
    tables = Tables(*(a.astype(np.float32) for a in (bits, rate, gain)))
    if centroids is None:
        return tables
    return tables._replace(centroids=centroids.values, back=back.astype(np.float32))


@functools.cache
def expected(rdoq_lambda: float, *, centroids: bool = False) -> Tables:
    """What an encoder is expected to do, before any model is: for training.

    Args:
      rdoq_lambda: bits per squared step.
      centroids: it and its decoders take integers for their centroids.
    """
    if centroids:
        gaussian, means = expected_quantiser(rdoq_lambda)
        return tables_of(gaussian, rdoq_lambda, means)
    return tables_of(expected_tables(rdoq_lambda), rdoq_lambda)


def as_encoded(noise: jax.Array, *, centroids: bool, rdoq_lambda: float = RDOQ_LAMBDA) -> Trimmed:
    """The quantiser of files, as expected of an encoder.

    Args:
      noise: uniform in [-1/2, 1/2] [B, h, w, C], which says the dither.
      centroids: of the model, see `HyperConfig`.
      rdoq_lambda: bits per squared step.
    """
    tables = expected(rdoq_lambda, centroids=centroids)
    return Trimmed(tables, dither_of(noise), rdoq_lambda)


def dither_of(noise: jax.Array) -> jax.Array:
    """Dither indices int32 of uniform noise in [-1/2, 1/2]."""
    index = jnp.floor((noise + 0.5) * DITHER_POINTS).astype(jnp.int32)
    return jnp.clip(index, 0, DITHER_POINTS - 1)


def values_of(index: jax.Array) -> jax.Array:
    """Dither g in -1/2..1/2 of indices, as `entropy.dither_values`."""
    return (2.0 * index + 1.0 - DITHER_POINTS) / (2 * DITHER_POINTS)
