"""LPIPS weights of ours from the public files: torchvision's networks and the heads of `lpips`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from rcodec_jax.errors import UsageError
from rcodec_jax.export.statefiles import StateFiles, free_place, write_arrays
from rcodec_jax.metrics.perceptual import expected_shapes

_LAYERS = {
    "alex": dict(zip(("conv1", "conv2", "conv3", "conv4", "conv5"), (0, 3, 6, 8, 10), strict=True)),
    "squeeze": {"conv1": 0},
    "vgg": {
        "conv1_1": 0,
        "conv1_2": 2,
        "conv2_1": 5,
        "conv2_2": 7,
        "conv3_1": 10,
        "conv3_2": 12,
        "conv3_3": 14,
        "conv4_1": 17,
        "conv4_2": 19,
        "conv4_3": 21,
        "conv5_1": 24,
        "conv5_2": 26,
        "conv5_3": 28,
    },
}
"""Place of each convolution in torchvision's `features`; that of a fire module is in its name."""

_FIRE = re.compile(r"fire(\d+)_(\w+)")
_WHOLE_MODULE = r"^net\.slice\d+\."
"""Names in the state dictionary of the whole `lpips.LPIPS`, whose slices keep the places."""


def import_lpips(
    paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, force: bool = False
) -> tuple[Path, str, int]:
    """Writes `lpips_<net>.npz`, as `Lpips.load` reads it; the values stay as they are.

    Args:
      paths: files with the tensors of torchvision's AlexNet, SqueezeNet 1.1 or VGG16 and of the
        heads of that network, version 0.1, of the package `lpips`: .safetensors, or what
        `torch.save` wrote. One file with all of them, a whole `lpips.LPIPS`, will do.
      out: folder to write into, made if it is missing.
      force: whether a file that is there may be replaced.

    Returns:
      The file, its network ("alex", "squeeze" or "vgg"), and the number of parameters.

    Raises:
      UsageError: a file that cannot be read, tensors that are missing, of another shape or not
        finite, or a result that is there already; then nothing is written.
    """
    state = StateFiles(paths, "LPIPS", place=_WHOLE_MODULE, once=("features.", "lin"))
    net = _network(state)
    state.measure = f"LPIPS {net}"
    file = free_place(out, f"lpips_{net}.npz", force=force)
    arrays = {}
    for name, shape in expected_shapes(net).items():
        if name.startswith("lin"):
            whose = "a head of the package lpips"
            arrays[name] = state.take_weights(key(net, name), shape, whose)
        else:
            arrays[name] = state.take_layer(key(net, name), shape, "torchvision's")
    return file, net, write_arrays(file, arrays)


def _network(state: StateFiles) -> str:
    if "features.0.weight" not in state:
        raise UsageError(
            "expected the tensors of torchvision's AlexNet, SqueezeNet 1.1 or VGG16 and the heads "
            f"of the package lpips, got no features.0.weight among {len(state)} tensors"
        )
    if "features.3.squeeze.weight" in state:
        return "squeeze"
    return "vgg" if "features.2.weight" in state else "alex"


def key(net: str, name: str) -> str:
    """Torchvision's name, or that of `lpips`, of an array of ours."""
    if name.startswith("lin"):
        return f"{name}.model.1.weight"
    module, kind = name[:-2], {"_w": "weight", "_b": "bias"}[name[-2:]]
    fire = _FIRE.fullmatch(module)
    place = f"{fire[1]}.{fire[2]}" if fire else str(_LAYERS[net][module])
    return f"features.{place}.{kind}"
