"""Convolutions with kernels of 3x3 by Winograd's minimal filtering F(4x4, 3x3).

Tiles of 4x4 outputs are interpolated from 6x6 points, so that a convolution becomes 36 products of
matrices with a quarter of the multiplications (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016, section 4.3). The transforms are sums of shifted arrays. The gradients
are the same three steps transposed: that of the input shares its transforms with that of the
kernel and with the convolution itself. Errors are some 5e-6 of the largest output.

Names: B, G and A are the paper's matrices; a tile's points are told apart by their column first,
then by their row.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

TILE = 4
"""Outputs on a side; those of what is convolved must be multiples of it."""

_POINTS = TILE + 2

_B = np.array(
    [
        [4, 0, 0, 0, 0, 0],
        [0, -4, 4, -2, 2, 4],
        [-5, -4, -4, -1, -1, 0],
        [0, 1, -1, 2, -2, -5],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ],
    np.float32,
)
_G = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32
) / np.float32(24)
_A = np.array(
    [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]],
    np.float32,
)

_KERNEL_POINTS = np.einsum("ai,bj->baij", _G, _G).reshape(_POINTS**2, 9)

_PARTS = 2
"""Batches of products: XLA's CPU back end runs each on one thread, but several at once."""

Points = list[jax.Array]
"""Values at the points of tiles, by `_PARTS` of their columns: [6 columns and rows, tiles, C]."""


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 1, zeros around: [B, h, w, C], [3, 3, C, D] -> [B, h, w, D].

    Args:
      x: float32, h and w multiples of `TILE`.
      kernel: float32.
    """
    products = _products("ptc,pcd->ptd", _of_input(x), _of_kernel(kernel))
    return _to_output(products, x.shape[:3])


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept  # transformed anew: XLA finds that it has both from the forward pass
    slopes = _of_slope(slope)
    to_x = _products("ptd,pcd->ptc", slopes, _of_kernel(kernel))
    to_kernel = _products("ptc,ptd->pcd", _of_input(x), slopes)
    return _to_input(to_x, x.shape[:3]), _to_kernel(to_kernel)


convolve.defvjp(_forward, _backward)


def _of_input(x: jax.Array) -> Points:
    """B^T d B of the 6x6 values around each tile."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = jnp.stack(_mix(_B.T, _windows(x, 1)))  # [6, B, h/4, w + 2, C]
    return _parted(_mix(_B.T, _windows(rows, 3)))


def _to_input(points: Points, shape: Sequence[int]) -> jax.Array:
    """The transpose of `_of_input`: [B, h, w, C]; neighbouring tiles add where they overlap."""
    columns = jnp.stack(_overlapped(_mix(_B, _whole(points, shape)), 3))
    return _picture(_overlapped(_mix(_B, list(jnp.moveaxis(columns, 1, 0))), 2), shape)


def _of_slope(x: jax.Array) -> Points:
    """The transpose of `_to_output`: A x A^T of each tile of [B, h, w, D]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // TILE, TILE, width // TILE, TILE, channels)
    rows = jnp.stack(_mix(_A, [x[:, :, i] for i in range(TILE)]))  # [6, B, h/4, w/4, 4, D]
    return _parted(_mix(_A, [rows[..., i, :] for i in range(TILE)]))


def _to_output(points: Points, shape: Sequence[int]) -> jax.Array:
    """A^T m A: the tiles of [B, h, w, D]."""
    columns = jnp.stack(_mix(_A.T, _whole(points, shape)))
    return _picture(_mix(_A.T, list(jnp.moveaxis(columns, 1, 0))), shape)


def _of_kernel(kernel: jax.Array) -> Points:
    """G g G^T of each pair of channels, by columns' parts: [6 columns and rows, C, D]."""
    flat = kernel.reshape(9, -1)
    parts = np.split(_KERNEL_POINTS, _PARTS)
    return [_product("pk,kn->pn", part, flat).reshape(-1, *kernel.shape[2:]) for part in parts]


def _to_kernel(points: Points) -> jax.Array:
    """The transpose of `_of_kernel`: [3, 3, C, D]."""
    values = jnp.concatenate(points)
    flat = _product("kp,pn->kn", _KERNEL_POINTS.T, values.reshape(_POINTS**2, -1))
    return flat.reshape(3, 3, *values.shape[1:])


def _mix(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """The matrix times a vector of arrays, written out, so that it is fused."""
    mixed = []
    for row in matrix:
        terms = [
            part if k == 1 else -part if k == -1 else float(k) * part
            for k, part in zip(row, parts, strict=True)
            if k
        ]
        mixed.append(sum(terms[1:], start=terms[0]))
    return mixed


def _windows(x: jax.Array, axis: int) -> list[jax.Array]:
    """The first, the second, ... of each tile's 6 values along an axis of size 4 n + 2."""
    end = x.shape[axis] - _POINTS + 1
    return [jax.lax.slice_in_dim(x, i, i + end, TILE, axis) for i in range(_POINTS)]


def _overlapped(parts: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """The transpose of `_windows` but for the zeros around: 4 values of each tile of 6."""
    before = _shifted(parts[5], axis, (1, 0))
    after = _shifted(parts[0], axis, (0, 1))
    return [parts[1] + before, parts[2], parts[3], parts[4] + after]


def _shifted(x: jax.Array, axis: int, zeros: tuple[int, int]) -> jax.Array:
    x = jax.lax.slice_in_dim(x, zeros[1], x.shape[axis] - zeros[0], axis=axis)
    return jnp.pad(x, [zeros if i == axis else (0, 0) for i in range(x.ndim)])


def _parted(columns: list[jax.Array]) -> Points:
    """[6, B, h/4, w/4, C] of each column -> `Points`."""
    count = _POINTS // _PARTS
    parts = (columns[i : i + count] for i in range(0, _POINTS, count))
    return [jnp.concatenate(p).reshape(count * _POINTS, -1, p[0].shape[-1]) for p in parts]


def _whole(points: Points, shape: Sequence[int]) -> list[jax.Array]:
    """The inverse of `_parted`, of a picture [B, h, w]."""
    batch, height, width = shape
    tiles = (batch, height // TILE, width // TILE)
    return [
        column for part in points for column in part.reshape(-1, _POINTS, *tiles, part.shape[-1])
    ]


def _picture(rows: list[jax.Array], shape: Sequence[int]) -> jax.Array:
    """[4 columns, B, h/4, w/4, C] of each of 4 rows -> [B, h, w, C]."""
    return jnp.stack(rows).transpose(2, 3, 0, 4, 1, 5).reshape(*shape, rows[0].shape[-1])


def _products(axes: str, a: Points, b: Points) -> Points:
    return [_product(axes, *pair) for pair in zip(a, b, strict=True)]


def _product(axes: str, a: jax.Array | np.ndarray, b: jax.Array) -> jax.Array:
    return jnp.einsum(axes, a, b, precision=jax.lax.Precision.HIGHEST)
