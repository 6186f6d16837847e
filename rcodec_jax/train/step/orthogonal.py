"""Kernels made orthogonal, as Muon wants its momentum, by products that mostly are small."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration (Jordan et al. 2024): steep at 0, and within .7..1.2 near 1."""

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def orthogonal(matrix: jax.Array, steps: int) -> jax.Array:
    """Near the orthogonal factor U V^T of a matrix U S V^T, by Newton-Schulz iterations.

    Each step X -> X (a + b G + c G^2) with G = X^T X is a polynomial of the first G on the first X.
    So all steps are taken on G, a square of the matrix's shorter side, and the matrix itself is
    used twice: to make G, and for the result. For the kernels of convolutions, nine times as
    long as wide, that is less than half of the arithmetic and a tenth of the memory traffic.

    Args:
      matrix: float32 [m, n].
      steps: iterations; singular values above 3.4^-steps of the matrix's norm end near 1.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonal(matrix.T, steps).T
    a, b, c = COEFFICIENTS
    gram = _product(matrix.T, matrix)
    power = jnp.trace(gram) + 1e-16
    gram = gram / power
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    total = None
    for step in range(steps):
        factor = a * eye + b * gram + c * _product(gram, gram)
        total = factor if total is None else _product(total, factor)
        if step + 1 < steps:
            gram = _product(_product(gram, factor), factor)
    assert total is not None
    return _product(matrix, total * jax.lax.rsqrt(power))
