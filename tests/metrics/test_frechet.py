"""Frechet distance against plain Python without NumPy, and the protocol of its patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import frechet, perceptual
from rcodec_jax.metrics.frechet import Moments, frechet_distance

Matrix = list[list[float]]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[dot(row, column) for column in zip(*b, strict=True)] for row in a]


def inverse(a: Matrix) -> Matrix:
    """Gauss and Jordan, with pivots."""
    n = len(a)
    rows = [list(row) + [float(i == j) for j in range(n)] for i, row in enumerate(a)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(n):
            if r != i:
                factor = rows[r][i]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [row[n:] for row in rows]


def square_root(a: Matrix) -> Matrix:
    """Of a matrix with positive eigenvalues (Denman and Beavers 1976)."""
    n = len(a)
    y, z = a, [[float(i == j) for j in range(n)] for i in range(n)]
    for _ in range(60):
        iy, iz = inverse(y), inverse(z)
        y, z = (
            [[(p + q) / 2 for p, q in zip(*rows, strict=True)] for rows in zip(u, v, strict=True)]
            for u, v in ((y, iz), (z, iy))
        )
    return y


def plain(a: Matrix, b: Matrix) -> float:
    """The distance of two lists of features, from the formula."""
    means, covariances = [], []
    for found in (a, b):
        n = len(found)
        mean = [sum(column) / n for column in zip(*found, strict=True)]
        centred = [[x - m for x, m in zip(row, mean, strict=True)] for row in found]
        columns = list(zip(*centred, strict=True))
        covariances.append([[dot(p, q) / (n - 1) for q in columns] for p in columns])
        means.append(mean)
    root = square_root(product(*covariances))
    trace = sum(
        covariances[0][i][i] + covariances[1][i][i] - 2 * root[i][i] for i in range(len(root))
    )
    return sum((p - q) ** 2 for p, q in zip(*means, strict=True)) + trace  # fmt: skip


def moments(*parts: np.ndarray) -> Moments:
    made = Moments()
    for part in parts:
        made.add(part)
    return made


def test_the_distance_is_that_of_the_formula_in_plain_python() -> None:
    rng = np.random.default_rng(2)
    for n, m in ((9, 12), (40, 7)):
        a = rng.normal(1, 2, (n, 4)) @ rng.normal(size=(4, 4))
        b = rng.normal(-1, 1, (m, 4)) @ rng.normal(size=(4, 4))
        expected = plain(a.tolist(), b.tolist())
        assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-7)
        # Parts in any order are the whole.
        apart = frechet_distance(moments(a[5:], a[:0], a[:5]), moments(b))
        assert apart == pytest.approx(expected, rel=1e-9)


def test_known_distances() -> None:
    a = np.array([[-1.0, 0], [1, 0], [0, -2], [0, 2]])
    assert frechet_distance(moments(a), moments(a)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(a), moments(a + [3, 4])) == pytest.approx(25)
    # Covariances of one shape: the distance is that of the deviations.
    deviations = [math.sqrt(2 / 3), math.sqrt(8 / 3)]
    expected = sum((3 * d - d) ** 2 for d in deviations)
    assert frechet_distance(moments(a), moments(3 * a)) == pytest.approx(expected)
    with pytest.raises(UsageError, match="got 4 and 1"):
        frechet_distance(moments(a), moments(a[:1]))


def test_patches_are_two_grids() -> None:
    pixels = np.arange(130 * 200 * 3, dtype=np.int32).reshape(130, 200, 3)
    cut = frechet.patches(pixels)
    corners = [(0, 0), (0, 64), (0, 128), (64, 0), (64, 64), (64, 128), (32, 32), (32, 96)]
    assert len(cut) == len(corners)
    for patch, (top, left) in zip(cut, corners, strict=True):
        np.testing.assert_array_equal(patch, pixels[top : top + 64, left : left + 64])
    assert frechet.patches(pixels[:63]).shape == (0, 64, 64, 3)
    with pytest.raises(UsageError, match="expected a picture"):
        frechet.patches(pixels[..., 0])


def test_features_are_means_of_the_last_layer_of_each_patch_alone() -> None:
    rng = np.random.default_rng(0)
    shapes = perceptual.expected_shapes("alex")
    arrays = {name: rng.normal(0, 0.05, shape) for name, shape in shapes.items()}
    lpips = perceptual.Lpips.from_arrays(arrays, "alex")
    pixels = rng.integers(0, 256, (64, 130, 3), np.uint8)
    found = frechet.patch_features(lpips, pixels)
    assert found.shape == (2, 256)
    alone = jnp.asarray(pixels[None, :, 64:128].astype(np.float32) / 127.5 - 1)
    expected = perceptual.features(lpips.params, alone, "alex")[-1].mean(axis=(1, 2))[0]
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-6)
    assert frechet.patch_features(lpips, pixels[:40]).shape[0] == 0
