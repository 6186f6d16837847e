"""Floating-point operations of a function, counted from its jaxpr; nothing is compiled or run.

XLA's own count comes after fusion, is per device, leaves out what it calls libraries for, and on
some back ends counts loops once. This one is a property of the mathematics: the same for every
device, mesh and compiler, which is what a utilisation is measured against.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


@dataclasses.dataclass(frozen=True)
class Flops:
    """Multiplications and additions of matrix products and convolutions (two per product).

    Attributes:
      matmul: of `dot_general`.
      conv: of `conv_general_dilated`, forward or as a gradient.
      notes: what the count could not know.
    """

    matmul: int = 0
    conv: int = 0
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Both together; element-wise work is not counted, as is customary."""
        return self.matmul + self.conv

    def __add__(self, other: Flops) -> Flops:
        notes = tuple(dict.fromkeys(self.notes + other.notes))
        return Flops(self.matmul + other.matmul, self.conv + other.conv, notes)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.matmul * times, self.conv * times, self.notes)


def count_flops(fn: Callable[..., Any], *args: Any) -> Flops:
    """Counts the operations of one call of a function, over all devices together.

    Products with the zeros of padding and dilation are not counted, so a convolution costs the
    same in its forward pass, its gradient by the input and its gradient by the kernel. What nobody
    uses is not counted either. What rematerialisation computes again is: count the function
    without it for the FLOPs of a model-FLOPs utilisation (Chowdhery et al. 2022, appendix B).

    Args:
      fn: a function that JAX can trace.
      *args: its arguments, or `jax.ShapeDtypeStruct`s in their place.

    Returns:
      The count. `scan` counts its body once per element, `cond` its dearest branch; `while_loop`,
      whose length is unknown, one pass, and a note says so.
    """
    closed = jax.make_jaxpr(fn)(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _jaxpr_flops(jaxpr)


def _jaxpr_flops(jaxpr: core.Jaxpr) -> Flops:
    return sum((_equation_flops(equation) for equation in jaxpr.eqns), Flops())


def _equation_flops(equation: core.JaxprEqn) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Flops(matmul=_dot_flops(equation))
    if name == "conv_general_dilated":
        return Flops(conv=_conv_flops(equation))
    inner = [_jaxpr_flops(jaxpr) for jaxpr in _inner_jaxprs(params)]
    if name == "cond":
        return max(inner, key=lambda flops: flops.total)
    total = sum(inner, Flops())
    if name == "scan":
        return total * params["length"]
    if name == "shard_map":  # its body has the shapes of one device
        manual = params.get("manual_axes", params["mesh"].axis_names)
        return total * math.prod(params["mesh"].shape[axis] for axis in manual)
    if name == "while" and total.total:
        return total + Flops(notes=("a while loop of unknown length was counted as one pass",))
    return total


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Jaxprs among an equation's parameters: bodies of loops, of jit, of custom derivatives."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _shape(variable: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = variable.aval.shape
    return shape


def _dot_flops(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    return 2 * math.prod(_shape(equation.outvars[0])) * math.prod(left[i] for i in contracted)


def _conv_flops(equation: core.JaxprEqn) -> int:
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel = (_shape(variable) for variable in equation.invars[:2])
    out = _shape(equation.outvars[0])
    products = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for axis, (stride, padding, image_dilation, kernel_dilation) in enumerate(
        zip(
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            strict=True,
        )
    ):
        products *= _products_along_axis(
            out[numbers.out_spec[2 + axis]],
            image[numbers.lhs_spec[2 + axis]],
            kernel[numbers.rhs_spec[2 + axis]],
            stride,
            padding,
            image_dilation,
            kernel_dilation,
        )
    return 2 * products


def _products_along_axis(
    outputs: int,
    inputs: int,
    taps: int,
    stride: int,
    padding: Sequence[int],
    input_dilation: int,
    tap_dilation: int,
) -> int:
    """Pairs of an output position and a tap that meet an element of the input, not a zero."""
    # Position p under a tap sees element i where p * stride + offset == i * input_dilation: every
    # `period`-th position from `residue` on, as long as i lies inside the picture.
    period = input_dilation // math.gcd(stride, input_dilation)
    count = 0
    for tap in range(taps):
        offset = tap * tap_dilation - padding[0]
        fitting = (p for p in range(period) if (p * stride + offset) % input_dilation == 0)
        residue = next(fitting, None)
        if residue is None:
            continue
        first = max(residue, -(offset // stride))  # the second is ceil(-offset / stride)
        first += (residue - first) % period
        last = min(outputs - 1, ((inputs - 1) * input_dilation - offset) // stride)
        count += max(0, (last - first) // period + 1)
    return count
