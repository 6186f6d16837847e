"""LPIPS weights of ours from the public files: torchvision's networks and the heads of `lpips`."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.export.repository import Tensors
from rcodec_jax.export.torchfile import TorchFile
from rcodec_jax.files import atomic_write
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
_WHOLE_MODULE = re.compile(r"^net\.slice\d+\.")
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
    where: dict[str, tuple[Tensors | TorchFile, str]] = {}
    for path in map(Path, paths):
        held = Tensors([path]) if path.suffix == ".safetensors" else TorchFile(path)
        for stored in held.shapes:
            name = _WHOLE_MODULE.sub("features.", stored)
            if name in where and name.startswith(("features.", "lin")):
                raise UsageError(f"{path}: expected each tensor once, got {name} again")
            where[name] = held, stored
    net = _network(where)
    file = Path(out) / f"lpips_{net}.npz"
    if file.exists() and not force:
        raise UsageError(f"{file}: exists already (--force overwrites it)")
    arrays = {}
    for name, shape in expected_shapes(net).items():
        key = _key(net, name)
        if key not in where:
            what = "a head of the package lpips" if name.startswith("lin") else "torchvision's"
            raise UsageError(f"LPIPS {net}: expected the tensor {key} ({what}), got none")
        held, stored = where[key]
        kept = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape
        kept = (1, *shape, 1, 1) if name.startswith("lin") else kept
        if held.shapes[stored] != kept:
            given = list(held.shapes[stored])
            raise UsageError(f"LPIPS {net}: {key}: expected shape {list(kept)}, got {given}")
        value = held.read(stored).astype(np.float32)
        if not np.isfinite(value).all():
            raise UsageError(f"LPIPS {net}: {key}: expected finite values, got others")
        arrays[name] = value.transpose(2, 3, 1, 0) if len(shape) == 4 else value.reshape(shape)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made: {error.strerror or error}") from error
    atomic_write(file, content.getvalue())
    return file, net, sum(value.size for value in arrays.values())


def _network(names: Iterable[str]) -> str:
    names = set(names)
    if "features.0.weight" not in names:
        raise UsageError(
            "expected the tensors of torchvision's AlexNet, SqueezeNet 1.1 or VGG16 and the heads "
            f"of the package lpips, got no features.0.weight among {len(names)} tensors"
        )
    if "features.3.squeeze.weight" in names:
        return "squeeze"
    return "vgg" if "features.2.weight" in names else "alex"


def _key(net: str, name: str) -> str:
    """Torchvision's name, or that of `lpips`, of an array of ours."""
    if name.startswith("lin"):
        return f"{name}.model.1.weight"
    module, kind = name[:-2], {"_w": "weight", "_b": "bias"}[name[-2:]]
    fire = _FIRE.fullmatch(module)
    place = f"{fire[1]}.{fire[2]}" if fire else str(_LAYERS[net][module])
    return f"features.{place}.{kind}"
