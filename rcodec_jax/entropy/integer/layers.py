"""Layers of the integer network (FORMAT.md, section 7).

Activations are integers within int16, held in float64 because that is what matrix multiplication
is fast in. Every intermediate value is an integer below 2^53 in size, proved when a layer is made,
so no operation rounds and neither thread count nor summation order can change a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rcodec_jax.errors import BundleError
from rcodec_jax.levels import NODE_COUNT

ACTIVATION_MIN = -(1 << 15)
ACTIVATION_MAX = (1 << 15) - 1
EXACT_LIMIT = 1 << 53
MAX_SHIFT = 48
MAX_KERNEL = 9
MAX_CHANNELS = 4096
_BLOCK_VALUES = 1 << 17  # im2col values at a time: 1 MB, about a cache of a core
_LEAST_BLOCK = 16  # cells


def _integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise BundleError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise BundleError(f"{name} must be {low}..{high}, got {value}")
    return int(value)


def _requantise(values: np.ndarray, shift: int) -> np.ndarray:
    """sat16(floor(values 2^-shift)) in place; the rounding half is already in `values`."""
    values *= 2.0**-shift
    np.floor(values, out=values)
    np.clip(values, ACTIVATION_MIN, ACTIVATION_MAX, out=values)
    return values


@dataclass(frozen=True, eq=False)
class LevelContext:
    """Levels of a picture or of a part of it as two arrays (`levels.Levels`)."""

    nodes: np.ndarray
    level_map: np.ndarray

    def rows(self, rows: slice) -> LevelContext:
        """Some rows of cells."""
        return LevelContext(self.nodes, self.level_map[rows])

    def window(self, rows: slice, columns: slice, stride: int) -> LevelContext:
        """The part that these activations see, each of which has `stride` cells a side."""
        own = (slice(s.start * stride, s.stop * stride) for s in (rows, columns))
        return LevelContext(self.nodes, self.level_map[tuple(own)])

    def counts(self, stride: int) -> np.ndarray:
        """Occupancy counts of the levels: float64 [h / stride, w / stride, L], sums stride^2."""
        height, width = (side // stride for side in self.level_map.shape)
        blocks = self.level_map.reshape(height, stride, width, stride)
        counts = np.empty((height, width, self.nodes.size))
        for level in range(self.nodes.size):
            counts[:, :, level] = (blocks == level).sum((1, 3))
        return counts


@dataclass(frozen=True, eq=False)
class Conv:
    """y = sat16(floor((x * w + b) 2^-shift + 1/2)), stride 1, zero 'same' padding.

    Attributes:
      weight: int16 [kh, kw, cin, cout], odd sides; cross-correlation, as in deep learning.
      bias: int64 [cout].
      shift: 0..48.

    Raises:
      BundleError: a wrong shape or range, or sum|w| max|x| + |b| + 2^(shift-1) >= 2^53 for some
        output channel, so that float64 could round.
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    _matrix: np.ndarray = field(init=False, repr=False)
    _offset: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weight, bias = np.asarray(self.weight), np.asarray(self.bias)
        if weight.dtype != np.int16 or weight.ndim != 4:
            raise BundleError(
                f"conv weight: need int16 [kh,kw,cin,cout], got {weight.dtype} {weight.shape}"
            )
        kh, kw, cin, cout = weight.shape
        if not all(side % 2 == 1 and side <= MAX_KERNEL for side in (kh, kw)):
            raise BundleError(f"conv kernel must be odd and at most {MAX_KERNEL}, got {kh}x{kw}")
        if not all(1 <= channels <= MAX_CHANNELS for channels in (cin, cout)):
            raise BundleError(f"conv channels must be 1..{MAX_CHANNELS}, got {cin} and {cout}")
        if bias.dtype != np.int64 or bias.shape != (cout,):
            raise BundleError(f"conv bias: need int64 ({cout},), got {bias.dtype} {bias.shape}")
        shift = _integer("conv shift", self.shift, 0, MAX_SHIFT)
        half = (1 << shift) >> 1
        reach = np.abs(weight.astype(np.int64)).sum((0, 1, 2)) * -ACTIVATION_MIN
        for channel, (size, offset) in enumerate(zip(reach.tolist(), bias.tolist(), strict=True)):
            if size + abs(offset) + half >= EXACT_LIMIT:  # Python integers: no overflow here
                raise BundleError(
                    f"conv output {channel} could reach {size + abs(offset) + half}, at or above "
                    "2^53: float64 would round"
                )
        object.__setattr__(self, "shift", shift)
        matrix = weight.reshape(kh * kw * cin, cout).astype(np.float64)
        object.__setattr__(self, "_matrix", matrix)
        object.__setattr__(self, "_offset", (bias + half).astype(np.float64))

    @property
    def input_channels(self) -> int:
        return int(self.weight.shape[2])

    @property
    def output_channels(self) -> int:
        return int(self.weight.shape[3])

    def __call__(self, x: np.ndarray, context: LevelContext) -> np.ndarray:
        """float64 [h, w, cin] -> float64 [h, w, cout], integers within int16."""
        del context
        down, right = self.reach
        y = np.empty((*x.shape[:2], self.output_channels))
        for place, block in self.blocks(np.pad(x, ((down, down), (right, right), (0, 0)))):
            y[place] = block
        return y

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of context on either side of an output."""
        return self.weight.shape[0] // 2, self.weight.shape[1] // 2

    def blocks(self, x: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """The convolution block by block, each while it is in the cache.

        Args:
          x: float64 [h + 2 down, w + 2 right, cin], its context around it; see `reach`.

        Yields:
          (rows, columns) of a block of [h, w] and its outputs float64 [rows, columns, cout].
        """
        x = np.ascontiguousarray(x)
        kh, kw, cin, cout = self.weight.shape
        height, width = x.shape[0] - kh + 1, x.shape[1] - kw + 1
        row, cell, value = x.strides
        # overlapping windows as a view: a patch row of kw cells is contiguous in memory
        windows = np.lib.stride_tricks.as_strided(
            x, (height, width, kh, kw * cin), (row, cell, row, value), writeable=False
        )
        most = max(_LEAST_BLOCK, _BLOCK_VALUES // (kh * kw * cin))  # cells
        columns = min(width, most)
        rows = max(1, most // columns)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                place = slice(top, min(top + rows, height)), slice(left, min(left + columns, width))
                patches = windows[place]
                block = patches.reshape(-1, kh * kw * cin) @ self._matrix
                block += self._offset
                yield place, _requantise(block, self.shift).reshape(*patches.shape[:2], cout)


@dataclass(frozen=True)
class LeakyRelu:
    """x if x >= 0, else (x + 2^(k-1)) >> k with k = slope_log2, 1..15."""

    slope_log2: int = 3

    def __post_init__(self) -> None:
        slope = _integer("leaky relu slope_log2", self.slope_log2, 1, 15)
        object.__setattr__(self, "slope_log2", slope)

    def __call__(self, x: np.ndarray, context: LevelContext) -> np.ndarray:
        """float64 [h, w, c] -> the same shape."""
        del context
        y = x + float(1 << (self.slope_log2 - 1))
        y *= 2.0**-self.slope_log2
        np.floor(y, out=y)
        return np.maximum(x, y, out=y)  # the sloped value is below x exactly where x > 0


@dataclass(frozen=True, eq=False)
class Film:
    """Gain and offset by node, mixed by how many cells of a block each level covers.

    G = sum_i c_i rows[node_i, :C], B = sum_i c_i rows[node_i, C:], c_i the occupancy counts of a
    stride x stride block; y = sat16(floor((x G + B 2^gain_bits) 2^-(gain_bits + 2 log2 stride)
    + 1/2)).

    Attributes:
      rows: int16 [1024, 2 C].
      gain_bits: fraction bits of a gain, 0..24.
      stride: latent cells per side of one activation cell: 1, 2, 4 or 8.

    Raises:
      BundleError: a wrong shape or range (within these, every value is below 2^53).
    """

    rows: np.ndarray
    gain_bits: int
    stride: int

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows)
        if rows.dtype != np.int16 or rows.ndim != 2 or rows.shape[0] != NODE_COUNT:
            raise BundleError(
                f"film rows: need int16 [{NODE_COUNT}, 2 C], got {rows.dtype} {rows.shape}"
            )
        if rows.shape[1] % 2 or not 2 <= rows.shape[1] <= 2 * MAX_CHANNELS:
            raise BundleError(f"film rows: need an even width, got {rows.shape[1]}")
        object.__setattr__(self, "gain_bits", _integer("film gain_bits", self.gain_bits, 0, 24))
        if _integer("film stride", self.stride, 1, 8) not in (1, 2, 4, 8):
            raise BundleError(f"film stride must be 1, 2, 4 or 8, got {self.stride}")
        object.__setattr__(self, "stride", int(self.stride))

    @property
    def channels(self) -> int:
        return int(self.rows.shape[1]) // 2

    def __call__(self, x: np.ndarray, context: LevelContext) -> np.ndarray:
        """float64 [h, w, C] -> the same shape."""
        area = self.stride * self.stride
        rows = self.rows[context.nodes].astype(np.float64)  # [L, 2C]
        rows[:, self.channels :] *= float(1 << self.gain_bits)
        shift = self.gain_bits + area.bit_length() - 1
        rows[:, self.channels :] += ((1 << shift) >> 1) / area  # the counts sum to the area
        if context.nodes.size == 1:
            mixed = rows[0] * area
        elif self.stride == 1:
            mixed = rows[context.level_map]
        else:
            mixed = context.counts(self.stride) @ rows
        y = x * mixed[..., : self.channels]
        y += mixed[..., self.channels :]
        return _requantise(y, shift)


@dataclass(frozen=True)
class DepthToSpace:
    """[h, w, b b C] -> [b h, b w, C]; input channel (dy b + dx) C + c goes to (b y + dy, b x + dx).

    Attributes:
      block: b, 2 or 4.
    """

    block: int = 2

    def __post_init__(self) -> None:
        if _integer("depth-to-space block", self.block, 2, 4) not in (2, 4):
            raise BundleError(f"depth-to-space block must be 2 or 4, got {self.block}")
        object.__setattr__(self, "block", int(self.block))

    def __call__(self, x: np.ndarray, context: LevelContext) -> np.ndarray:
        """float64 [h, w, b b C] -> float64 [b h, b w, C]."""
        del context
        height, width, channels = x.shape
        b = self.block
        split = x.reshape(height, width, b, b, channels // (b * b))
        return split.transpose(0, 2, 1, 3, 4).reshape(height * b, width * b, -1)


Layer = Conv | LeakyRelu | Film | DepthToSpace
