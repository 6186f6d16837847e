"""LPIPS: learned perceptual distance on features of AlexNet, SqueezeNet 1.1 or VGG16.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
version 0.1 (linear heads on unit-normalised features). Pure functions of a plain parameter
dictionary: usable as a metric and, being differentiable, as a training loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import fidelity
from rcodec_jax.metrics.weights import Params, checked, read_arrays

NETS = ("alex", "squeeze", "vgg")
MIN_SIDE_PX = 32

_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32).reshape(1, 1, 1, 3)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32).reshape(1, 1, 1, 3)
# Norm floor under the root: keeps the gradient finite where every feature of a position is zero.
_NORM_FLOOR = 1e-10

# (name, stride, padding, kernel, out channels); a max pool stands before conv2 and conv3.
_ALEX = (
    ("conv1", 4, 2, 11, 64),
    ("conv2", 1, 2, 5, 192),
    ("conv3", 1, 1, 3, 384),
    ("conv4", 1, 1, 3, 256),
    ("conv5", 1, 1, 3, 256),
)
_ALEX_POOL_BEFORE = frozenset({"conv2", "conv3"})

# SqueezeNet 1.1: (name, squeeze channels, channels of each expand half, taken as a feature).
_FIRES = (
    ("fire3", 16, 64, False),
    ("fire4", 16, 64, True),
    ("fire6", 32, 128, False),
    ("fire7", 32, 128, True),
    ("fire9", 48, 192, True),
    ("fire10", 48, 192, True),
    ("fire11", 64, 256, True),
    ("fire12", 64, 256, True),
)
_FIRE_POOL_BEFORE = frozenset({"fire3", "fire6", "fire9"})

# VGG16: (name, channels) of its 3x3 convolutions; the last of each block is taken as a feature, and
# a max pool stands before the next block.
_VGG = (
    (("conv1_1", 64), ("conv1_2", 64)),
    (("conv2_1", 128), ("conv2_2", 128)),
    (("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256)),
    (("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512)),
    (("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512)),
)


def expected_shapes(net: str) -> dict[str, tuple[int, ...]]:
    """Shapes of every array of `net`, one of `NETS`; kernels as [kh, kw, cin, cout]."""
    shapes: dict[str, tuple[int, ...]] = {}
    taken: list[int] = []

    def conv(name: str, kernel: int, cin: int, cout: int) -> int:
        shapes[f"{name}_w"], shapes[f"{name}_b"] = (kernel, kernel, cin, cout), (cout,)
        return cout

    channels = 3
    if net == "alex":
        for name, _, _, kernel, cout in _ALEX:
            channels = conv(name, kernel, channels, cout)
            taken.append(channels)
    elif net == "squeeze":
        channels = conv("conv1", 3, channels, 64)
        taken.append(channels)
        for name, squeeze, expand, is_taken in _FIRES:
            conv(f"{name}_squeeze", 1, channels, squeeze)
            conv(f"{name}_expand1x1", 1, squeeze, expand)
            conv(f"{name}_expand3x3", 3, squeeze, expand)
            channels = 2 * expand
            if is_taken:
                taken.append(channels)
    elif net == "vgg":
        for block in _VGG:
            for name, cout in block:
                channels = conv(name, 3, channels, cout)
            taken.append(channels)
    else:
        raise UsageError(f"LPIPS network must be one of {', '.join(NETS)}, got {net!r}")
    shapes.update({f"lin{i}": (c,) for i, c in enumerate(taken)})
    return shapes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lpips:
    """LPIPS with the weights `params` (a plain dictionary of arrays) of `net`.

    A pytree whose leaves are the weights: pass it to a jitted function or close over it.
    """

    params: Params
    net: str = field(default="alex", metadata={"static": True})

    @classmethod
    def load(cls, path: str | Path, net: str | None = None) -> Lpips:
        """Reads `lpips_<net>.npz`; `path` is that file, or a folder holding it (default "alex").

        Raises UsageError if the file is missing, unreadable, or not such a network.
        """
        arrays = read_arrays(path, f"lpips_{net or 'alex'}.npz", "LPIPS")
        marks = {"fire3_squeeze_w": "squeeze", "conv1_1_w": "vgg"}
        found = next((of for mark, of in marks.items() if mark in arrays), "alex")
        if net is not None and net != found:
            raise UsageError(f"{path} holds LPIPS {found}, expected {net}")
        return cls.from_arrays(arrays, found)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], net: str) -> Lpips:
        """Checks names and shapes against `net`; raises UsageError naming the first mismatch."""
        return cls(checked(arrays, expected_shapes(net), f"LPIPS {net}"), net)

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distance of each pair, float32 [N]; `a`, `b` [N, H, W, 3] in -1..1, sides >= 32."""
        maps = self._layer_maps(a, b)
        return sum(
            (jnp.mean(m, axis=(1, 2)) for m in maps), start=jnp.zeros(a.shape[0], jnp.float32)
        )

    def spatial(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distance by pixel [N, H, W]: each layer's map at full size (bilinear), summed.

        Its mean over a picture is close to, but not exactly, the plain distance.
        """
        shape = a.shape[:3]
        return sum(
            (
                jax.image.resize(m, shape, "bilinear", antialias=False)
                for m in self._layer_maps(a, b)
            ),
            start=jnp.zeros(shape, jnp.float32),
        )

    def _layer_maps(self, a: jax.Array, b: jax.Array) -> list[jax.Array]:
        check_pair(a, b, "LPIPS")
        # Two passes, not one over both: the gradient of a constant target is then never computed.
        features_a, features_b = (features(self.params, x, self.net) for x in (a, b))
        maps = []
        for i, (fa, fb) in enumerate(zip(features_a, features_b, strict=True)):
            difference = jnp.square(_unit(fa) - _unit(fb))
            maps.append(jnp.einsum("nhwc,c->nhw", difference, self.params[f"lin{i}"]))
        return maps


def features(params: Params, image: jax.Array, net: str) -> list[jax.Array]:
    """Activations LPIPS compares: five arrays [N, h_i, w_i, C_i], of SqueezeNet seven.

    `image` is [N, H, W, 3] in -1..1.
    """
    if net == "vgg":
        return vgg_features(params, image, functools.partial(_max_pool, window=2))
    x = _normalised(image)
    taken = []
    if net == "alex":
        for name, stride, padding, _, _ in _ALEX:
            if name in _ALEX_POOL_BEFORE:
                x = _max_pool(x)
            x = _conv_relu(params, name, x, stride, padding)
            taken.append(x)
        return taken
    x = _conv_relu(params, "conv1", x, 2, 0)
    taken.append(x)
    for name, _, _, is_taken in _FIRES:
        if name in _FIRE_POOL_BEFORE:
            x = _max_pool(x, ceil=True)
        squeezed = _conv_relu(params, f"{name}_squeeze", x)
        wide = _conv_relu(params, f"{name}_expand3x3", squeezed, padding=1)
        x = jnp.concatenate([_conv_relu(params, f"{name}_expand1x1", squeezed), wide], axis=-1)
        if is_taken:
            taken.append(x)
    return taken


def vgg_features(
    params: Params, image: jax.Array, pool: Callable[[jax.Array], jax.Array]
) -> list[jax.Array]:
    """The last layer of each of the five blocks of VGG16, with `pool` between blocks."""
    x = _normalised(image)
    taken: list[jax.Array] = []
    for block in _VGG:
        x = pool(x) if taken else x
        for name, _ in block:
            x = _conv_relu(params, name, x, padding=1)
        taken.append(x)
    return taken


def _normalised(image: jax.Array) -> jax.Array:
    return (image.astype(jnp.float32) - _SHIFT) / _SCALE


def _conv_relu(
    params: Params, name: str, x: jax.Array, stride: int = 1, padding: int = 0
) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x,
        params[f"{name}_w"],
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(y + params[f"{name}_b"].reshape(1, 1, 1, -1))


def _max_pool(x: jax.Array, *, window: int = 3, ceil: bool = False) -> jax.Array:
    """Maximum of `window` squared at stride 2; `ceil` keeps a last, partly covered window too.

    One axis after the other, of shifted arrays: on CPUs, the gradient of a window is several times
    slower. Among equals it goes to more than one; but after a ReLU only zeros are equal, where it
    ends.
    """
    for axis in (1, 2):
        extra = (x.shape[axis] - window) % 2 if ceil else 0
        end = (x.shape[axis] + extra - window) // 2 * 2 + 1
        pad = [(0, extra if i == axis else 0) for i in range(4)]
        x = jnp.pad(x, pad, constant_values=-jnp.inf)
        shifted = [jax.lax.slice_in_dim(x, i, i + end, 2, axis) for i in range(window)]
        x = functools.reduce(jnp.maximum, shifted)
    return x


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _NORM_FLOOR)


def check_pair(a: jax.Array, b: jax.Array, measure: str) -> None:
    """Raises UsageError unless both are [N, H, W, 3] of one shape with sides >= MIN_SIDE_PX."""
    fidelity.check_pair(a, b)
    if min(a.shape[1:3]) < MIN_SIDE_PX:
        raise UsageError(
            f"{measure} needs sides of at least {MIN_SIDE_PX} px, got {a.shape[1]}x{a.shape[2]}"
        )
