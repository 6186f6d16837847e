"""Files of weights of the measures: plain .npz that 'rcodec import' makes, checked when read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import UsageError

Params = dict[str, jax.Array]


_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,  # a single array in place of an archive
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: str | Path, file: str, measure: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name.

    Args:
      path: that file, or a folder with `file`.
      file, measure: as they are said in errors, `lpips_alex.npz` and "LPIPS".

    Raises:
      UsageError: a file that is missing or cannot be read.
    """
    path = Path(path)
    path = path / file if path.is_dir() else path
    try:
        # Opened here, as np.load leaves what is damaged open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UsageError(
            f"no {measure} weights at {path}: expected {file} or the like, as 'rcodec import "
            f"--kind {measure.lower()}' makes it"
        ) from None
    except _UNREADABLE as error:
        raise UsageError(f"{path} is not a readable .npz of {measure} weights: {error}") from error


def checked(
    arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], network: str
) -> Params:
    """The arrays of `shapes` in float32; raises UsageError naming the first that does not fit."""
    params: Params = {}
    for name, shape in shapes.items():
        given = arrays[name].shape if name in arrays else None
        if given != shape:
            raise UsageError(f"{network}: {name} must have shape {shape}, got {given}")
        if arrays[name].dtype.kind not in "fiu" or not np.isfinite(arrays[name]).all():
            raise UsageError(f"{network}: {name} must have finite numbers")
        params[name] = jnp.asarray(arrays[name], jnp.float32)
    return params
