"""The integer hyper-synthesis: a checked chain of layers, run in bands of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcodec_jax.entropy.integer.layers import (
    Conv,
    DepthToSpace,
    Film,
    Layer,
    LeakyRelu,
    LevelContext,
)
from rcodec_jax.errors import BundleError

MAX_LAYERS = 256
MAX_RADIUS = 64
_BAND_VALUES = 1 << 23  # activations of the widest layer computed at once, halo apart


class IntegerNetwork:
    """Hyper-latents and levels to the prior, in integers only.

    Args:
      layers: starts and ends with a Conv; channels must match along the chain.

    Attributes:
      layers: the tuple of layers.
      input_channels, output_channels: channels of z and of the result.
      upsampling: latent cells per side of one z cell (the product of the DepthToSpace blocks).
      radius: how many z cells away a z cell can still matter.

    Raises:
      BundleError: the chain does not fit together.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise BundleError(f"network: need 1..{MAX_LAYERS} layers, got {len(self.layers)}")
        first, last = self.layers[0], self.layers[-1]
        if not isinstance(first, Conv) or not isinstance(last, Conv):
            raise BundleError("network: the first and the last layer must be Conv")
        self.upsampling = 1
        for layer in self.layers:
            if isinstance(layer, DepthToSpace):
                self.upsampling *= layer.block
        if self.upsampling > 8:
            raise BundleError(f"network: upsampling is at most 8, got {self.upsampling}")
        self.input_channels = first.input_channels
        self.output_channels = self._check_chain(first.input_channels)
        self.radius = self._find_radius()
        if self.radius > MAX_RADIUS:
            raise BundleError(f"network: radius is at most {MAX_RADIUS}, got {self.radius}")

    def _check_chain(self, channels: int) -> int:
        """Walks the chain; returns the channels at its end."""
        stride = self.upsampling
        self._widest = channels  # activations per z cell
        for number, layer in enumerate(self.layers):
            wanted = channels  # layers without parameters take any number
            if isinstance(layer, Conv):
                wanted, after = layer.input_channels, layer.output_channels
            elif isinstance(layer, Film):
                wanted = after = layer.channels
                if layer.stride != stride:
                    raise BundleError(
                        f"network layer {number}: film stride must be {stride}, got {layer.stride}"
                    )
            elif isinstance(layer, DepthToSpace):
                area = layer.block * layer.block
                if channels % area:
                    raise BundleError(
                        f"network layer {number}: {channels} channels cannot be split by {area}"
                    )
                after = channels // area
                stride //= layer.block
            elif isinstance(layer, LeakyRelu):
                after = channels
            else:
                raise BundleError(f"network layer {number}: unknown kind {type(layer).__name__}")
            if wanted != channels:
                raise BundleError(
                    f"network layer {number}: takes {wanted} channels but is given {channels}"
                )
            channels = after
            cells = (self.upsampling // stride) ** 2
            self._widest = max(self._widest, channels * cells)
        return channels

    def _find_radius(self) -> int:
        radius = 0
        for layer in reversed(self.layers):
            if isinstance(layer, Conv):
                radius += layer.weight.shape[0] // 2
            elif isinstance(layer, DepthToSpace):
                radius = -(-radius // layer.block)
        return int(radius)

    def run(
        self,
        z: np.ndarray,
        nodes: np.ndarray,
        level_map: np.ndarray,
        *,
        band_rows: int | None = None,
    ) -> np.ndarray:
        """Applies the layers.

        Bands of z rows with a halo of `radius` rows give the same integers as the whole picture,
        because whatever the zero padding at an inner edge spoils lies within the halo.

        Args:
          z: int [hz, wz, Cz], within int16.
          nodes: int [L], 0..1023.
          level_map: int [hz u, wz u], 0..L-1, u the upsampling.
          band_rows: z rows per band (for tests); by default from the width.

        Returns:
          int32 [hz u, wz u, output channels].
        """
        height, width, _ = z.shape
        up = self.upsampling
        rows = band_rows or max(1, _BAND_VALUES // (width * self._widest))
        out = np.empty((height * up, width * up, self.output_channels), np.int32)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(0, top - self.radius), min(height, bottom + self.radius)
            context = LevelContext(nodes, level_map[first * up : last * up])
            x = z[first:last].astype(np.float64)
            for layer in self.layers:
                x = layer(x, context)
            out[top * up : bottom * up] = x[(top - first) * up : (bottom - first) * up]
        return out
