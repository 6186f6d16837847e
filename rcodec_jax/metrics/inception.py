"""Features of Inception V3 that the FID is measured on.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, in the form
of TensorFlow's file of 2015-12-05, which FIDs are by convention of (Heusel et al., NeurIPS 2017):
average pools count no padding, and the last block has a maximum in place of the average. Names are
those of torchvision. Batch norms are folded into the convolutions when weights are imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.metrics.weights import Params, checked, read_arrays

FILE = "inception.npz"
SIDE_PX = 299
"""Pictures of any size are resized to this first."""

_WINDOW = (1, 3, 3, 1)
_ONE_AROUND = ((0, 0), (1, 1), (1, 1), (0, 0))


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU; `padded` keeps the size at stride 1."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True


Step = Conv | tuple[Conv, ...] | str
"""Several convolutions side by side are concatenated. A text is a pool of 3x3: "average" and
"maximum" keep the size, "halve" is the maximum at stride 2 without padding."""

Branch = tuple[Step, ...]


def _whole(name: str, channels: int, stride: int = 1) -> Conv:
    return Conv(name, channels, (3, 3), stride, padded=False)


def _chain(name: str, *layers: tuple[int, int, int]) -> Branch:
    """Convolutions `name`_1, `name`_2 and so on of channels, height and width."""
    return tuple(Conv(f"{name}_{i}", c, (h, w)) for i, (c, h, w) in enumerate(layers, start=1))


def _fork(name: str, place: int) -> tuple[Conv, Conv]:
    return Conv(f"{name}_{place}a", 384, (1, 3)), Conv(f"{name}_{place}b", 384, (3, 1))


def _block_a(pooled: int) -> tuple[Branch, ...]:
    return (
        (Conv("branch1x1", 64),),
        _chain("branch5x5", (48, 1, 1), (64, 5, 5)),
        _chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        ("average", Conv("branch_pool", pooled)),
    )


def _block_c(c: int) -> tuple[Branch, ...]:
    return (
        (Conv("branch1x1", 192),),
        _chain("branch7x7", (c, 1, 1), (c, 1, 7), (192, 7, 1)),
        _chain("branch7x7dbl", (c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
        ("average", Conv("branch_pool", 192)),
    )


def _block_e(pool: str) -> tuple[Branch, ...]:
    return (
        (Conv("branch1x1", 320),),
        (*_chain("branch3x3", (384, 1, 1)), _fork("branch3x3", 2)),
        (*_chain("branch3x3dbl", (448, 1, 1), (384, 3, 3)), _fork("branch3x3dbl", 3)),
        (pool, Conv("branch_pool", 192)),
    )


_STEM: Branch = (
    _whole("Conv2d_1a_3x3", 32, 2),
    _whole("Conv2d_2a_3x3", 32),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    "halve",
    Conv("Conv2d_3b_1x1", 80),
    _whole("Conv2d_4a_3x3", 192),
    "halve",
)

_BLOCKS: dict[str, tuple[Branch, ...]] = {
    "": (_STEM,),
    "Mixed_5b.": _block_a(32),
    "Mixed_5c.": _block_a(64),
    "Mixed_5d.": _block_a(64),
    "Mixed_6a.": (
        (_whole("branch3x3", 384, 2),),
        (*_chain("branch3x3dbl", (64, 1, 1), (96, 3, 3)), _whole("branch3x3dbl_3", 96, 2)),
        ("halve",),
    ),
    "Mixed_6b.": _block_c(128),
    "Mixed_6c.": _block_c(160),
    "Mixed_6d.": _block_c(160),
    "Mixed_6e.": _block_c(192),
    "Mixed_7a.": (
        (*_chain("branch3x3", (192, 1, 1)), _whole("branch3x3_2", 320, 2)),
        (
            *_chain("branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1)),
            _whole("branch7x7x3_4", 192, 2),
        ),
        ("halve",),
    ),
    "Mixed_7b.": _block_e("average"),
    "Mixed_7c.": _block_e("maximum"),
}


def layers() -> Iterator[tuple[str, int, Conv]]:
    """Each convolution: torchvision's name of its module, channels it takes, and what it is."""
    channels = 3
    for prefix, branches in _BLOCKS.items():
        ends = 0
        for branch in branches:
            inner = channels
            for step in branch:
                convs = (
                    () if isinstance(step, str) else step if isinstance(step, tuple) else (step,)
                )
                yield from ((prefix + conv.name, inner, conv) for conv in convs)
                inner = sum(conv.channels for conv in convs) or inner
            ends += inner
        channels = ends


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of every array: `MODULE_w` [kh, kw, cin, cout] and `MODULE_b` [cout]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, channels, conv in layers():
        shapes[f"{name}_w"] = (*conv.kernel, channels, conv.channels)
        shapes[f"{name}_b"] = (conv.channels,)
    return shapes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Inception:
    """Inception V3 with the weights `params`; a pytree whose leaves they are."""

    params: Params

    @classmethod
    def load(cls, path: str | Path) -> Inception:
        """Reads `inception.npz`; `path` is that file, or a folder holding it.

        Raises UsageError if the file is missing, unreadable, or holds something else.
        """
        return cls.from_arrays(read_arrays(path, FILE, "Inception"))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Inception:
        """Checks names and shapes; raises UsageError naming the first mismatch."""
        return cls(checked(arrays, expected_shapes(), "Inception"))

    def __call__(self, image: jax.Array) -> jax.Array:
        """Features float32 [N, 2048]: means over space of the last block, of [N, H, W, 3] in -1..1.

        Pictures are resized to 299 px bilinearly, as pytorch-fid does it.
        """
        resized = (image.shape[0], SIDE_PX, SIDE_PX, 3)
        image = jax.image.resize(image.astype(jnp.float32), resized, "bilinear", antialias=False)
        return jnp.mean(blocks(self.params, image)["Mixed_7c"], axis=(1, 2))


def blocks(params: Params, image: jax.Array) -> dict[str, jax.Array]:
    """Output [N, h, w, C] of the stem (under "stem") and of each block; `image` in -1..1."""
    found, x = {}, image
    for prefix, branches in _BLOCKS.items():
        ends = []
        for branch in branches:
            y = x
            for step in branch:
                y = _step(params, prefix, step, y)
            ends.append(y)
        x = found[prefix.removesuffix(".") or "stem"] = jnp.concatenate(ends, axis=-1)
    return found


def _step(params: Params, prefix: str, step: Step, x: jax.Array) -> jax.Array:
    if isinstance(step, tuple):
        return jnp.concatenate([_step(params, prefix, conv, x) for conv in step], axis=-1)
    if step == "average":
        return _average_pool(x)
    if isinstance(step, str):
        stride, around = (2, "VALID") if step == "halve" else (1, _ONE_AROUND)
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, _WINDOW, (1, stride, stride, 1), around
        )
    y = jax.lax.conv_general_dilated(
        x,
        params[f"{prefix}{step.name}_w"],
        (step.stride, step.stride),
        [(k // 2, k // 2) if step.padded else (0, 0) for k in step.kernel],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(y + params[f"{prefix}{step.name}_b"].reshape(1, 1, 1, -1))


def _average_pool(x: jax.Array) -> jax.Array:
    """Mean of 3x3 at stride 1, at the border of those that are there."""
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, _WINDOW, (1, 1, 1, 1), _ONE_AROUND)
    down, across = (np.convolve(np.ones(n), np.ones(3), "same") for n in x.shape[1:3])
    return total / np.outer(down, across).astype(np.float32)[None, :, :, None]
