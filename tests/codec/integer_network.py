"""The integer network in other arithmetic than the package's, and on other devices.

    python tests/codec/integer_network.py numpy     the package's own network under this process's
                                                    BLAS, threads and kernels (imports no JAX)
    python tests/codec/integer_network.py jax       im2col and float64 matrix products in JAX on its
                                                    default device: JAX_PLATFORMS=cuda for a GPU

Both print the same JSON if the promise holds: SHA-256 of what the networks give, by model.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if sys.argv[1:] == ["jax"]:
        os.environ["JAX_ENABLE_X64"] = "1"

import numpy as np

from rcodec_jax.entropy import Conv, DepthToSpace, Film, IntegerNetwork, LeakyRelu, LevelContext
from rcodec_jax.model.bundle import load_integers, shipped_bundle

Scene = tuple[np.ndarray, LevelContext]
"""z int32 [hz, wz, Cz] and the levels of [4 hz, 4 wz] cells."""

Dot = Callable[[Any, Any], Any]


def scenes(network: IntegerNetwork, size: tuple[int, int] = (7, 9)) -> list[Scene]:
    """Ordinary hyper-latents under many levels, and the far ends of their range under one."""
    rng = np.random.default_rng(11)
    shape = (*size, network.input_channels)
    levels = rng.integers(0, 16, (4 * size[0], 4 * size[1])).astype(np.uint8)
    nodes = np.sort(rng.integers(0, 1024, 16)).astype(np.int32)
    ends = rng.choice(np.array([-32767, -20000, 0, 3, 32767], np.int32), shape)
    return [
        (rng.integers(-40, 41, shape).astype(np.int32), LevelContext(nodes, levels)),
        (ends, LevelContext(nodes[:1], np.zeros_like(levels))),
    ]


def run(network: IntegerNetwork, scene: Scene, xp: Any, kind: Any, dot: Dot) -> Any:
    """The network from its definition, in any library and kind of number.

    Args:
      network: its layers.
      scene: what goes in.
      xp: NumPy or jax.numpy.
      kind: np.int64, object (Python's integers) or np.float64.
      dot: multiplies patches [n, k] by a matrix [k, channels].
    """
    z, levels = scene
    node_map = levels.nodes[levels.level_map]

    def number(values: np.ndarray) -> Any:
        return xp.asarray(values.astype(kind))

    def shifted(x: Any, bits: int) -> Any:
        """floor(x 2^-bits)."""
        return xp.floor(x * 2.0**-bits) if kind is np.float64 else x >> bits

    def requantised(x: Any, bits: int) -> Any:
        return xp.minimum(xp.maximum(shifted(x + ((1 << bits) >> 1), bits), -32768), 32767)

    x = number(z)
    for layer in network.layers:
        height, width, channels = x.shape
        if isinstance(layer, Conv):
            kh, kw, cin, cout = layer.weight.shape
            padded = xp.pad(x, ((kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
            views = [
                padded[dy : dy + height, dx : dx + width] for dy in range(kh) for dx in range(kw)
            ]
            patches = xp.concatenate(views, axis=-1).reshape(-1, kh * kw * cin)
            sums = dot(patches, number(layer.weight.reshape(-1, cout))) + number(layer.bias)[None]
            x = requantised(sums, layer.shift).reshape(height, width, cout)
        elif isinstance(layer, LeakyRelu):
            k = layer.slope_log2
            x = xp.where(x >= 0, x, shifted(x + (1 << (k - 1)), k))
        elif isinstance(layer, Film):
            s = layer.stride
            rows = layer.rows.astype(np.int64)[node_map]
            rows = number(rows.reshape(height, s, width, s, 2 * channels).sum((1, 3)))
            sums = x * rows[..., :channels] + rows[..., channels:] * (1 << layer.gain_bits)
            x = requantised(sums, layer.gain_bits + 2 * (s.bit_length() - 1))
        else:
            assert isinstance(layer, DepthToSpace)
            b = layer.block
            blocks = x.reshape(height, width, b, b, channels // (b * b))
            x = blocks.transpose(0, 2, 1, 3, 4).reshape(height * b, width * b, -1)
    return x


def digest(values: Any) -> str:
    """SHA-256 of integers as little-endian int32."""
    return hashlib.sha256(np.asarray(values).astype("<i4").tobytes()).hexdigest()


def by_package(network: IntegerNetwork) -> list[str]:
    """What the package gives for the scenes."""
    return [digest(network.run(*scene)) for scene in scenes(network)]


def by_jax(network: IntegerNetwork) -> list[str]:
    """The same by JAX on its default device."""
    import jax
    import jax.numpy as jnp

    def dot(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    def digest_of(scene: Scene) -> str:
        z, *rest = scene
        compiled = jax.jit(lambda z: run(network, (z, *rest), jnp, np.float64, dot))
        values = compiled(jnp.asarray(z))
        assert values.dtype == jnp.float64
        return digest(values)

    return [digest_of(scene) for scene in scenes(network)]


def made() -> IntegerNetwork:
    """Large weights at random, so that sums are long, activations vary and some saturate."""
    rng = np.random.default_rng(3)

    def conv(side: int, cin: int, cout: int, shift: int) -> Conv:
        weight = rng.integers(-32768, 32768, (side, side, cin, cout)).astype(np.int16)
        return Conv(weight, rng.integers(-(2**33), 2**33, cout).astype(np.int64), shift)

    def film(channels: int, stride: int) -> Film:
        gain = rng.integers(2048, 8192, (1024, channels))
        offset = rng.integers(-3000, 3000, (1024, channels))
        return Film(np.concatenate([gain, offset], 1).astype(np.int16), 12, stride)

    layers = [
        conv(3, 6, 10, 7), LeakyRelu(), film(10, 4),
        conv(3, 10, 32, 20), DepthToSpace(), LeakyRelu(2), film(8, 2),
        conv(5, 8, 32, 20), DepthToSpace(), LeakyRelu(), film(8, 1),
        conv(3, 8, 12, 20), LeakyRelu(), conv(3, 12, 6, 21),
    ]  # fmt: skip
    return IntegerNetwork(layers)


def networks() -> dict[str, IntegerNetwork]:
    """A made one and that of the model that ships."""
    return {"made": made(), "shipped": load_integers(shipped_bundle()).network}


if __name__ == "__main__":
    assert sys.argv[1:] in (["numpy"], ["jax"]), __doc__
    compute = by_package if sys.argv[1] == "numpy" else by_jax
    print(json.dumps({name: compute(network) for name, network in networks().items()}))
    assert sys.argv[1] == "jax" or "jax" not in sys.modules
