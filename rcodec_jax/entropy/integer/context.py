"""The context network in integers: what the latent's first half tells of its second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rcodec_jax.entropy.distributions.centroids import CENTROID_BITS, Centroids
from rcodec_jax.entropy.distributions.gaussian import DITHER_POINTS, PRIOR_BITS, SIGMA_LEVELS
from rcodec_jax.entropy.integer.layers import ACTIVATION_MAX, ACTIVATION_MIN
from rcodec_jax.entropy.integer.network import IntegerNetwork
from rcodec_jax.errors import BundleError
from rcodec_jax.levels import NODE_COUNT

VALUE_BITS = 8
"""Fraction bits of what goes into the network."""

GAIN_BITS = 15
STEP_BITS = 12
MAX_STEP = 1 << 24
_DITHER_BITS = 7  # j - g is a multiple of 2^-7
_PRIOR_SHIFT = PRIOR_BITS - VALUE_BITS


@dataclass(frozen=True, eq=False)
class ContextModel:
    """Corrects the prior of the second half of a latent (`passes.first_half`) by the first.

    Attributes:
      network: 3 C channels to 2 C at the latent's resolution.
      gain: int32 [64], Wiener's share q / (q + 1/12) of each sigma level, q = (s sigma)^2; 15
        fraction bits; where there are centroids, these say instead what an integer stands for.
      step: int32 [1024], 1 / s of each node; 12 fraction bits.

    Raises:
      BundleError: a wrong shape, type or range.
    """

    network: IntegerNetwork
    gain: np.ndarray
    step: np.ndarray

    def __post_init__(self) -> None:
        for name, size, most in (
            ("gain", SIGMA_LEVELS, 1 << GAIN_BITS),
            ("step", NODE_COUNT, MAX_STEP),
        ):
            array = getattr(self, name)
            if array.shape != (size,) or array.dtype != np.int32:
                raise BundleError(
                    f"context {name}: need int32 ({size},), got {array.dtype} {array.shape}"
                )
            if array.min() < 0 or array.max() > most:  # so that 64 bits hold every product
                raise BundleError(f"context {name}: not within 0..{most}")
        if self.network.upsampling != 1:
            raise BundleError("context network: upsampling must be 1")
        given, channels = self.network.input_channels, self.network.output_channels
        if 2 * given != 3 * channels or channels % 2:
            raise BundleError(f"context network: takes {given} channels to {channels}")

    @property
    def latent_channels(self) -> int:
        return self.network.output_channels // 2

    def inputs(
        self,
        mean: np.ndarray,
        log2_sigma: np.ndarray,
        j: np.ndarray,
        dither: np.ndarray,
        index: np.ndarray,
        first: np.ndarray,
        step: np.ndarray,
        centroids: Centroids | None = None,
    ) -> np.ndarray:
        """What the network is given, float64 [h, w, 3 C] within int16.

        Args:
          mean, log2_sigma: int16 [h, w, C], the prior that z gives, 11 fraction bits.
          j: int [h, w, C], |j| < 2^15, of which the first half counts.
          dither, index: uint8 [h, w, C], dither and sigma index of each value.
          first: bool [h, w, C], the first half.
          step: int [h, w], `step` of each cell's node.
          centroids: of the part, if it has any.
        """
        n = 2 * DITHER_POINTS * j.astype(np.int64) - (2 * dither.astype(np.int64) + 1 - 64)
        if centroids is None:
            n *= self.gain[index]
            bits = _DITHER_BITS + GAIN_BITS
        else:
            n, bits = centroids.fixed(index, n), CENTROID_BITS
        n *= step.astype(np.int64)[..., None]
        shift = bits + STEP_BITS - VALUE_BITS
        n += 1 << (shift - 1)
        n >>= shift
        half = 1 << (_PRIOR_SHIFT - 1)
        height, width, channels = j.shape
        x = np.empty((height, width, 3, channels))
        x[:, :, 0] = np.add(mean, half, dtype=np.int32) >> _PRIOR_SHIFT
        x[:, :, 1] = np.add(log2_sigma, half, dtype=np.int32) >> _PRIOR_SHIFT
        x[:, :, 2] = np.where(first, n, 0)
        np.clip(x, ACTIVATION_MIN, ACTIVATION_MAX, out=x)
        return x.reshape(height, width, 3 * channels)
