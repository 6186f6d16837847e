"""What this machine's arithmetic can do at best: the figure that "utilisation" is a share of.

Measured, since a CPU's frequency and a GPU's power limit make the figure of a data sheet a wish.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

Options = dict[str, str] | None
Case = tuple[int, Callable[[], jax.Array]]
"""FLOPs of a call, and the call."""
Timed = tuple[Case, list[float]]
"""A case with the rates of its calls so far, in FLOP/s."""

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


class PeakMeter:
    """Calls that keep JAX's default device busy, to be timed between those of other work.

    Other work on the machine, and a clock that follows the heat, change what it can do by the
    minute. A share of the peak is fair only against a peak of the same minutes.
    """

    def __init__(
        self, dtype: jnp.dtype = jnp.float32, *, compiler_options: dict[str, str] | None = None
    ) -> None:
        """Compiles two sizes of each operation.

        Operands and results are of `dtype`, at JAX's default precision (TF32 for float32 on GPUs
        that have it).

        Args:
          dtype: float32, bfloat16 or float16.
          compiler_options: of the programs whose share is asked for, where they have any.
        """
        kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
        matmuls = [_matmul(side, dtype, compiler_options) for side in _MATMUL_SIDES[kind]]
        convs = [_conv(*shape, dtype, compiler_options) for shape in _CONV_SHAPES[kind]]
        self._matmuls: list[Timed] = [(case, []) for case in matmuls]
        self._convs: list[Timed] = [(case, []) for case in convs]
        for case in (*matmuls, *convs):
            case[1]().block_until_ready()

    def sample(self) -> None:
        """Times every case once: some tenths of a second on a CPU."""
        for (flops, call), rates in (*self._matmuls, *self._convs):
            begin = time.perf_counter()
            call().block_until_ready()
            rates.append(flops / (time.perf_counter() - begin))

    def best(self) -> Peaks:
        """By the fastest call of each operation: what the device can do when left alone."""
        return self._of(max)

    def median(self) -> Peaks:
        """By the median call of each operation's better size: what it could do in that time."""
        return self._of(statistics.median)

    def _of(self, summary: Callable[[list[float]], float]) -> Peaks:
        matmul, conv = (
            max(summary(rates) for _, rates in cases) for cases in (self._matmuls, self._convs)
        )
        return Peaks(matmul, conv)


def measure_peaks(
    dtype: jnp.dtype = jnp.float32,
    *,
    budget_s: float = 2.0,
    compiler_options: dict[str, str] | None = None,
) -> Peaks:
    """The peaks of JAX's default device by the fastest calls of a few seconds.

    Args:
      dtype, compiler_options: as for `PeakMeter`.
      budget_s: seconds of timed calls, compilation apart; every case is called three times anyway.
    """
    meter = PeakMeter(dtype, compiler_options=compiler_options)
    start = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - start < budget_s:
        meter.sample()
        rounds += 1
    return meter.best()


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
