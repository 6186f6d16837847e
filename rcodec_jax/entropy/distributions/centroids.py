"""What an integer of a latent stands for: the mean of all that an encoder rounds to it.

Decoders know j, its dither g and the spread of the prior. Were every integer kept that dithered
quantisation gives, the best estimate of the residual would be nearly linear in j - g. An encoder
that leaves out integers which are not worth their bits makes it far from linear: a 0 says little
more than that the residual is small, whatever its dither, and where a 1 is rare it stands for
values about 1. Estimates are centroids, as in Lloyd's quantiser (IEEE Trans. IT, 1982), for each
spread and each j - g.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.distributions.gaussian import DITHER_POINTS, SIGMA_LEVELS, sigma_of_level
from rcodec_jax.errors import BundleError

CENTROID_BITS = 13
"""Fraction bits of centroids."""

CENTROIDS = 3 * DITHER_POINTS
"""Of each spread, for |j - g| = 1/128, 3/128 .. 383/128; from there on they rise with |j - g|."""

WIDE = 4.0
"""From this spread on, in quantiser steps, trimming changes next to nothing: linear estimates."""

_UNIT_BITS = 7  # j - g is an odd multiple of 1/128
_LAST = 2 * CENTROIDS - 1
_DISTANCES = (np.arange(CENTROIDS) + 0.5) / DITHER_POINTS  # |j - g| of the columns


class Centroids:
    """Estimates of the scaled residual s (y - mu), odd in j - g.

    Args:
      table: int16 [64, 192] by level of s sigma and |j - g|, 13 fraction bits, none negative.

    Raises:
      BundleError: wrong type, shape or contents.
    """

    def __init__(self, table: np.ndarray) -> None:
        if table.shape != (SIGMA_LEVELS, CENTROIDS) or table.dtype != np.int16:
            raise BundleError(
                f"centroids: need int16 {(SIGMA_LEVELS, CENTROIDS)}, got {table.dtype} "
                f"{table.shape}"
            )
        if table.min() < 0:
            raise BundleError("centroids: negative")
        self.table = table

    @classmethod
    def linear(cls) -> Centroids:
        """Wiener's estimates, as if nothing was left out."""
        variance = np.square(sigma_of_level(np.arange(SIGMA_LEVELS)))[:, None]
        return cls.rounded(variance / (variance + 1 / 12) * _DISTANCES)

    @classmethod
    def rounded(cls, values: np.ndarray) -> Centroids:
        """From floats [64, 192], in quantiser steps."""
        most = np.iinfo(np.int16).max
        fixed = np.floor(np.clip(values, 0, None) * 2.0**CENTROID_BITS + 0.5)
        return cls(np.minimum(fixed, most).astype(np.int16))

    @property
    def values(self) -> np.ndarray:
        """float32 [64, 192], in quantiser steps, exact."""
        return self.table.astype(np.float32) / np.float32(1 << CENTROID_BITS)

    def fixed(self, sigma_index: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Centroids int64 with 13 fraction bits.

        Args:
          sigma_index: level of s sigma, uint8 of any shape.
          n: 128 (j - g), int64 of the same shape, odd.
        """
        size = np.abs(n)
        near = self.table[sigma_index, np.minimum(size, _LAST) >> 1].astype(np.int64)
        beyond = np.maximum(size - _LAST, 0) << (CENTROID_BITS - _UNIT_BITS)
        return np.sign(n) * (near + beyond)

    def estimate(self, sigma_index: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Centroids in quantiser steps, float64; u = j - g."""
        n = np.rint(u * 2.0**_UNIT_BITS).astype(np.int64)
        return self.fixed(sigma_index, n) / 2.0**CENTROID_BITS


def taken_for(
    u: np.ndarray, sigma: np.ndarray, sigma_index: np.ndarray, centroids: Centroids | None
) -> np.ndarray:
    """What decoders take u = j - g for, in quantiser steps.

    Args:
      u: of any shape.
      sigma, sigma_index: deviation of the residual in quantiser steps, and its level.
      centroids: of the model; None for the best linear estimate.
    """
    if centroids is not None:
        return centroids.estimate(sigma_index, u)
    variance = np.square(sigma)
    linear: np.ndarray = variance / (variance + 1 / 12) * u
    return linear


def place(u: np.ndarray) -> np.ndarray:
    """Column of the table for j - g, int64; those beyond the last are `CENTROIDS` and more."""
    at: np.ndarray = np.floor(np.abs(u) * DITHER_POINTS).astype(np.int64)
    return at


def filled(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Means [192] of sums by |j - g|, those of which there is none by their neighbours.

    Where no integer but 0 was ever worth its bits, 1 stands for 1: only what is about as large as
    that will be.

    Args:
      count, total: float64 [192], how often each |j - g| came, and the sum of sign(j - g) v.
    """
    u = _DISTANCES
    means = np.maximum(u, 1.0)
    half = DITHER_POINTS // 2
    for side in (slice(0, half), slice(half, None)):  # of 0, and of all others
        seen = np.flatnonzero(count[side])
        if seen.size:
            known = total[side][seen] / count[side][seen]
            means[side] = np.interp(u[side], u[side][seen], known)
            last = u[side][seen[-1]]
            means[side] += np.maximum(u[side] - last, 0.0)
    return np.maximum(means, 0.0)
