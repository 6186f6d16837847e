"""Weights of Inception V3 for the FID from the file that pytorch-fid publishes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.export.statefiles import StateFiles, free_place, write_arrays
from rcodec_jax.metrics.inception import FILE, layers

_EPSILON = 1e-3
_CLASSES_OF_TORCHVISION = 1000


def import_inception(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, force: bool = False
) -> tuple[Path, int]:
    """Writes `inception.npz`, as `Inception.load` reads it, with batch norms folded in.

    Args:
      paths: the file `pt_inception-2015-12-05` of pytorch-fid, or that as .safetensors.
        Torchvision's own Inception V3 has the same names and other values, which give no FID.
      out: folder to write into, made if it is missing.
      force: whether a file that is there may be replaced.

    Returns:
      The file and the number of parameters.

    Raises:
      UsageError: a file that cannot be read, tensors that are missing, of another shape or not
        finite, variances below 0, or a result that is there already; then nothing is written.
    """
    state = StateFiles(paths, "Inception")
    file = free_place(out, FILE, force=force)
    whose = "pt_inception-2015-12-05 of pytorch-fid"
    if state.shape_of("fc.bias") == (_CLASSES_OF_TORCHVISION,):
        raise UsageError(
            f"Inception: expected {whose}, got torchvision's own weights, which make no FID "
            f"(fc.bias has {_CLASSES_OF_TORCHVISION} values)"
        )
    arrays = {}
    for name, channels, conv in layers():
        shape = (*conv.kernel, channels, conv.channels)
        kernel = state.take_kernel(f"{name}.conv.weight", shape, whose)
        gain, shift, mean, variance = (
            state.take(f"{name}.bn.{part}", (conv.channels,), whose)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if variance.min() < 0:
            raise UsageError(f"Inception: {name}.bn.running_var: expected at least 0, got less")
        arrays[f"{name}_w"], arrays[f"{name}_b"] = fold(kernel, gain, shift, mean, variance)
    return file, write_arrays(file, arrays)


def fold(
    kernel: np.ndarray, gain: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [kh, kw, cin, cout] and bias [cout] of a convolution and the batch norm after it."""
    scale = gain / np.sqrt(variance.astype(np.float64) + _EPSILON)
    return (kernel * scale).astype(np.float32), (shift - mean * scale).astype(np.float32)
