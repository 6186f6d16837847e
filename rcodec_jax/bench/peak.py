"""What this machine's arithmetic can do at best: the figure that "utilisation" is a share of.

Measured, since a CPU's frequency and a GPU's power limit make the figure of a data sheet a wish.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

Options = dict[str, str] | None
Case = tuple[int, Callable[[], jax.Array]]
"""FLOPs of a call, and the call."""

_MATMUL_SIDES = {"cpu": (1024, 2048), "accelerator": (4096, 8192)}
_CONV_SHAPES = {  # batch, side, channels in and out
    "cpu": ((1, 64, 320), (1, 128, 128)),
    "accelerator": ((16, 64, 640), (4, 256, 256)),
}


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Highest rates reached, in FLOP/s of one device; a multiply-add is two.

    Attributes:
      matmul_flops: of a square matrix product.
      conv_flops: of a 3x3 convolution forward, NHWC, with as many channels out as in.
    """

    matmul_flops: float
    conv_flops: float


def measure_peaks(
    dtype: jnp.dtype = jnp.float32,
    *,
    budget_s: float = 2.0,
    compiler_options: dict[str, str] | None = None,
) -> Peaks:
    """Measures JAX's default device in a few seconds.

    Operands and results are of `dtype`, at JAX's default precision (TF32 for float32 on GPUs that
    have it). Two sizes of each operation take turns until the time is up, and the best call
    counts: what else the machine does, or how fast it runs just then, should not lower a peak.

    Args:
      dtype: float32, bfloat16 or float16.
      budget_s: seconds of timed calls, compilation apart; every case is called three times anyway.
      compiler_options: of the programs whose share of the peak is asked for, where they have any.

    Returns:
      The peaks of one device.
    """
    kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    matmuls = [_matmul(side, dtype, compiler_options) for side in _MATMUL_SIDES[kind]]
    convs = [_conv(*shape, dtype, compiler_options) for shape in _CONV_SHAPES[kind]]
    rates = _best_rates([*matmuls, *convs], budget_s)
    return Peaks(max(rates[: len(matmuls)]), max(rates[len(matmuls) :]))


def _best_rates(cases: list[Case], budget_s: float) -> list[float]:
    """FLOP/s of each case's fastest call."""
    for _, call in cases:
        call().block_until_ready()  # compiles
    best = [0.0] * len(cases)
    start = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - start < budget_s:
        for i, (flops, call) in enumerate(cases):
            begin = time.perf_counter()
            call().block_until_ready()
            best[i] = max(best[i], flops / (time.perf_counter() - begin))
        rounds += 1
    return best


def _matmul(side: int, dtype: jnp.dtype, options: Options) -> Case:
    # Random values: a GPU draws less power, and runs faster, on zeros.
    a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(2))
    multiply = jax.jit(jnp.matmul, compiler_options=options)
    return 2 * side**3, lambda: multiply(a, b)


def _conv(batch: int, side: int, channels: int, dtype: jnp.dtype, options: Options) -> Case:
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels), dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels), dtype)

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    compiled = jax.jit(convolve, compiler_options=options)
    # Products with the padding are not counted: (3 side - 2)^2 taps, not (3 side)^2.
    taps = batch * (3 * side - 2) ** 2
    return 2 * taps * channels**2, lambda: compiled(x, kernel)
