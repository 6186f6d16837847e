"""DISTS weights of ours from the public files: torchvision's VGG16 and `weights.pt` of DISTS."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rcodec_jax.export import lpips
from rcodec_jax.export.statefiles import StateFiles, free_place, write_arrays
from rcodec_jax.metrics.dists import FILE, expected_shapes

_WHOLE_MODULE = r"^stage\d+\."
"""Names in the state dictionary of the whole `DISTS`, whose stages keep torchvision's places."""


def import_dists(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, force: bool = False
) -> tuple[Path, int]:
    """Writes `dists.npz`, as `Dists.load` reads it; the values stay as they are.

    Args:
      paths: files with the tensors of torchvision's VGG16 and with `alpha` and `beta`:
        .safetensors, or what `torch.save` wrote. One file with all of them, a whole `DISTS`, will
        do.
      out: folder to write into, made if it is missing.
      force: whether a file that is there may be replaced.

    Returns:
      The file and the number of parameters.

    Raises:
      UsageError: a file that cannot be read, tensors that are missing, of another shape or not
        finite, or a result that is there already; then nothing is written.
    """
    once = ("features.", "alpha", "beta")
    state = StateFiles(paths, "DISTS", place=_WHOLE_MODULE, once=once)
    file = free_place(out, FILE, force=force)
    arrays = {}
    for name, shape in expected_shapes().items():
        if name in ("alpha", "beta"):
            arrays[name] = state.take_weights(name, shape, "weights.pt of DISTS")
        else:
            whose = "torchvision's VGG16"
            arrays[name] = state.take_layer(lpips.key("vgg", name), shape, whose)
    return file, write_arrays(file, arrays)
