"""DISTS: distance of structure and texture on features of VGG16.

Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2020. The
means of a channel tell its texture, its variations at each place its structure:

    texture   l = (2 mx my + c) / (mx^2 + my^2 + c)      structure s = (2 cov + c) / (vx + vy + c)
    distance  sum over channels of alpha (1 - l) + beta (1 - s), the weights summing to 1

It is measured at the size of the pictures. The example in the authors' repository shrinks them to
256 px first, which gives other numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rcodec_jax.metrics import perceptual
from rcodec_jax.metrics.weights import Params, checked, read_arrays

FILE = "dists.npz"
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Of the six stages: the picture itself, and the last layer of each block of VGG16."""

_C = 1e-6
_ROOT_FLOOR = 1e-12


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of every array: kernels [kh, kw, cin, cout], `alpha` and `beta` over all channels."""
    vgg = perceptual.expected_shapes("vgg").items()
    shapes = {name: shape for name, shape in vgg if not name.startswith("lin")}
    return shapes | {"alpha": (sum(CHANNELS),), "beta": (sum(CHANNELS),)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dists:
    """DISTS with the weights `params`; a pytree whose leaves they are."""

    params: Params

    @classmethod
    def load(cls, path: str | Path) -> Dists:
        """Reads `dists.npz`; `path` is that file, or a folder holding it.

        Raises UsageError if the file is missing, unreadable, or holds something else.
        """
        return cls.from_arrays(read_arrays(path, FILE, "DISTS"))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Dists:
        """Checks names and shapes; raises UsageError naming the first mismatch."""
        return cls(checked(arrays, expected_shapes(), "DISTS"))

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distance of each pair, float32 [N]; `a`, `b` [N, H, W, 3] in -1..1, sides >= 32."""
        perceptual.check_pair(a, b, "DISTS")
        of_a, of_b = (_stages(self.params, x) for x in (a, b))
        return weighted_distance(of_a, of_b, self.params["alpha"], self.params["beta"])


def weighted_distance(
    a: Sequence[jax.Array], b: Sequence[jax.Array], alpha: jax.Array, beta: jax.Array
) -> jax.Array:
    """Distance [N] of features [N, h_i, w_i, C_i]; `alpha` and `beta` [sum of C_i], of any scale.

    In the form (mx - my)^2 / (mx^2 + my^2 + c) and var(x - y) / (vx + vy + c): the same as 1 - l
    and 1 - s, but exactly 0 for equal features, and never below.
    """
    texture, structure = [], []
    for x, y in zip(a, b, strict=True):
        mean_x, mean_y = (jnp.mean(z, axis=(1, 2), keepdims=True) for z in (x, y))
        x, y = x - mean_x, y - mean_y
        mean_x, mean_y = mean_x[:, 0, 0], mean_y[:, 0, 0]
        texture.append(jnp.square(mean_x - mean_y) / (mean_x**2 + mean_y**2 + _C))
        apart, var_x, var_y = (jnp.mean(jnp.square(z), axis=(1, 2)) for z in (x - y, x, y))
        structure.append(apart / (var_x + var_y + _C))
    terms = (jnp.concatenate(texture, -1) @ alpha) + (jnp.concatenate(structure, -1) @ beta)
    return terms / (jnp.sum(alpha) + jnp.sum(beta))


def _stages(params: Params, image: jax.Array) -> list[jax.Array]:
    image = image.astype(jnp.float32)
    return [(image + 1) / 2, *perceptual.vgg_features(params, image, _l2_pool)]


def _l2_pool(x: jax.Array) -> jax.Array:
    """Root of the squares under a Hann window (1 2 1) / 4 both ways, at every other place."""
    x = jnp.square(x)
    for axis in (1, 2):
        size = x.shape[axis]
        x = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(4)])
        shifted = (jax.lax.slice_in_dim(x, i, i + size, 2, axis) for i in range(3))
        weighted = (w * part for w, part in zip((0.25, 0.5, 0.25), shifted, strict=True))
        x = functools.reduce(jnp.add, weighted)
    return jnp.sqrt(x + _ROOT_FLOOR)
