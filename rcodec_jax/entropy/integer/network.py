"""The integer hyper-synthesis: a checked chain of layers, run in bands of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from rcodec_jax.entropy.bands import in_bands, workers
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
_BAND_VALUES = 1 << 22  # activations of the widest layer in a band, halo apart


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

    @cached_property
    def _stages(self) -> list[tuple[Conv, tuple[Layer, ...], int, int]]:
        """Convolutions, the layers up to the next one, how much these upsample, and cells a side
        of an activation of the convolution."""
        starts = [i for i, layer in enumerate(self.layers) if isinstance(layer, Conv)]
        stages, stride = [], self.upsampling
        for start, end in zip(starts, [*starts[1:], len(self.layers)], strict=True):
            conv, tail = self.layers[start], self.layers[start + 1 : end]
            assert isinstance(conv, Conv)
            block = math.prod(layer.block for layer in tail if isinstance(layer, DepthToSpace))
            stages.append((conv, tail, block, stride))
            stride //= block
        return stages

    def run(
        self,
        z: np.ndarray,
        levels: LevelContext,
        *,
        band_rows: int | None = None,
    ) -> np.ndarray:
        """Applies the layers.

        Args:
          z: int [hz, wz, Cz], within int16.
          levels: of [hz u, wz u] cells, u the upsampling.
          band_rows: z rows per band (for tests); by default from the width.

        Returns:
          int32 [hz u, wz u, output channels].
        """
        out = np.empty((*levels.level_map.shape, self.output_channels), np.int32)

        def write(top: int, bottom: int, rows: np.ndarray) -> None:
            out[top:bottom] = rows

        self.run_in_bands(
            lambda first, last: z[first:last].astype(np.float64),
            write, levels, band_rows=band_rows,
        )  # fmt: skip
        return out

    def run_in_bands(
        self,
        read: Callable[[int, int], np.ndarray],
        write: Callable[[int, int, np.ndarray], None],
        levels: LevelContext,
        *,
        band_rows: int | None = None,
    ) -> None:
        """`run` where neither input nor result need be in memory as a whole.

        Each layer of a band computes the rows that the later ones need: the same integers as in
        the whole picture, whose border alone is padded.

        Args:
          read: (first, last) -> z rows float64 [last - first, wz, Cz].
          write: takes (first, last, result rows float64 [last - first, wz u, output channels]),
            each row once, from any thread.
          levels, band_rows: as for `run`.
        """
        up = self.upsampling
        height, width = (side // up for side in levels.level_map.shape)
        most = max(1, _BAND_VALUES // (width * self._widest))
        rows = band_rows or min(most, -(-height // workers()))

        def band(top: int, bottom: int) -> None:
            write(top * up, bottom * up, self._band(read, levels, top * up, bottom * up))

        in_bands(band, height, rows)

    def _band(
        self,
        read: Callable[[int, int], np.ndarray],
        levels: LevelContext,
        top: int,
        bottom: int,
    ) -> np.ndarray:
        """Rows top..bottom of the result, in latent cells."""
        spans = []  # first and last row that each convolution computes, from the last one back
        for conv, _, block, stride in reversed(self._stages):
            first, last = top // block, -(-bottom // block)
            spans.append((first, last))
            reach, height = conv.reach[0], levels.level_map.shape[0] // stride
            top, bottom = max(0, first - reach), min(height, last + reach)
        x, begin = read(top, bottom), top
        for (conv, tail, block, stride), (first, last) in zip(
            self._stages, spans[::-1], strict=True
        ):
            down, right = conv.reach
            height = levels.level_map.shape[0] // stride
            before, after = max(0, down - first), max(0, last + down - height)
            x = x[max(0, first - down) - begin : min(height, last + down) - begin]
            x = np.pad(x, ((before, after), (right, right), (0, 0)))
            shape = ((last - first) * block, (x.shape[1] - 2 * right) * block)
            y: np.ndarray | None = None
            for (rows, columns), part in conv.blocks(x):
                seen = levels.window(slice(first + rows.start, first + rows.stop), columns, stride)
                for layer in tail:
                    part = layer(part, seen)
                if y is None:
                    y = np.empty((*shape, part.shape[2]))
                place = (slice(s.start * block, s.stop * block) for s in (rows, columns))
                y[tuple(place)] = part
            assert y is not None
            x, begin = y, first * block
        return x
