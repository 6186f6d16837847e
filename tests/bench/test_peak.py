"""Measured peaks: of the right size, and no work of the networks beats them."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import pytest

from rcodec_jax.bench.peak import measure_peaks


@pytest.mark.slow
def test_no_product_is_faster_than_the_peak() -> None:
    peaks = measure_peaks(jnp.float32, budget_s=1.0)
    a = jax.random.normal(jax.random.key(0), (512, 1024))
    b = jax.random.normal(jax.random.key(1), (1024, 512))
    multiply = jax.jit(jnp.matmul)
    multiply(a, b).block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        multiply(a, b).block_until_ready()
        best = min(best, time.perf_counter() - start)
    assert 1e8 < 2 * 512 * 1024 * 512 / best < 1.5 * peaks.matmul_flops
    assert 1e8 < peaks.conv_flops < 1e16
