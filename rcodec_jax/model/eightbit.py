"""Kernels in 8 bits: whole numbers -127..127 and a step for each output channel.

Half the bytes of float16. Only large kernels are worth it; of those, the linear path of a small
autoencoder stays out, through which all of a picture goes straight.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rcodec_jax.errors import BundleError

SCALE = ".scale"
"""What follows a kernel's path in the name of its scales."""

LEAST_ELEMENTS = 4096
LARGEST = 127
_SHARES = np.linspace(1.0, 0.7, 16).astype(np.float32)
"""Largest values that a step is tried for, as shares of a channel's largest magnitude."""


def is_eligible(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a parameter is stored in 8 bits where a bundle is.

    Args:
      path: "decoder/conv_in/conv/kernel".
      shape: of the parameter. An odd number of elements would leave floats behind it at odd
        offsets, which not every reader of safetensors takes.
    """
    keys, size = path.split("/"), math.prod(shape)
    large = len(shape) >= 2 and size >= LEAST_ELEMENTS and size % 2 == 0
    return large and keys[-1] == "kernel" and keys[1:-1] != ["linear"]


def quantise(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel in 8 bits.

    Each channel's step is the best, in squared error, of 16 for which its largest magnitude is
    just within 127 steps or is clipped. A second time, `restore`'s result gives the same again.

    Args:
      kernel: floats [..., C] within float16.

    Returns:
      (int8 [..., C], float16 [C] of at least 0).
    """
    kernel = np.asarray(kernel, np.float32)
    rows = kernel.reshape(-1, kernel.shape[-1])
    peak = np.abs(rows).max(axis=0)
    scales = np.zeros(peak.shape, np.float16)
    least = np.full(peak.shape, np.inf, np.float32)
    for share in _SHARES:
        tried = _rounded_down(share * peak / LARGEST)
        step = tried.astype(np.float32)
        error = _steps(rows, step)
        error *= step
        error -= rows
        np.square(error, out=error)
        total = error.sum(axis=0)
        better = total < least
        least[better], scales[better] = total[better], tried[better]
    values = _steps(rows, scales.astype(np.float32)).astype(np.int8)
    return values.reshape(kernel.shape), scales


def restore(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The kernel that int8 [..., C] and float16 [C] stand for: float32 [..., C], exact."""
    kernel = values.astype(np.float32)
    kernel *= scales.astype(np.float32)
    return kernel


def restore_all(tensors: dict[str, Any]) -> bool:
    """Restores, in place and one at a time, the kernels among tensors as they are stored.

    Args:
      tensors: by path, each float16, or int8 with a tensor of scales, which goes.

    Returns:
      Whether there were any.

    Raises:
      BundleError: another dtype, or scales that are missing, too many or not finite.
    """
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(SCALE)}
    found = bool(scales)
    for name, values in tensors.items():
        if values.dtype == np.int8:
            scale = scales.pop(f"{name}{SCALE}", None)
            if scale is None:
                raise BundleError(f"{name}: 8 bits without scales")
            _check(name, values, scale)
            tensors[name] = restore(values, scale)
        elif values.dtype != np.float16:
            raise BundleError(f"{name}: expected float16 or int8, got {values.dtype}")
    if scales:
        raise BundleError(f"{min(scales)}: scales of no tensor in 8 bits")
    return found


def _check(name: str, values: np.ndarray, scale: np.ndarray) -> None:
    if values.ndim < 2 or scale.dtype != np.float16 or scale.shape != values.shape[-1:]:
        raise BundleError(
            f"{name}: expected a kernel and scales in float16, one for each of its last axis, "
            f"got {values.shape} and {scale.dtype} {scale.shape}"
        )
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise BundleError(f"{name}{SCALE}: expected finite numbers of at least 0")


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """Nonnegative float32 in float16, no larger: the largest magnitude takes 127 steps or more."""
    halves = values.astype(np.float16)
    return np.where(halves > values, np.nextafter(halves, np.float16(0)), halves)


def _steps(rows: np.ndarray, step: np.ndarray) -> np.ndarray:
    """float32 [N, C] in whole steps [C], half to even, within -127..127; 0 where a step is 0."""
    steps = rows / np.where(step > 0, step, np.inf).astype(np.float32)
    np.rint(steps, out=steps)
    return np.clip(steps, -LARGEST, LARGEST, out=steps)
