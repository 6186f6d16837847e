"""The integer network equals arithmetic in plain Python integers and depends on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from rcodec_jax.entropy import (
    Conv,
    DepthToSpace,
    Film,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    LevelContext,
)
from rcodec_jax.errors import BundleError

Grid = list[list[list[int]]]


def sat(value: int) -> int:
    return max(-32768, min(32767, value))


def rounded(value: int, shift: int) -> int:
    return sat((value + ((1 << shift) >> 1)) >> shift)


def slow_layer(layer: object, x: Grid, nodes: list[int], level_map: list[list[int]]) -> Grid:
    """One layer, cell by cell, in Python integers."""
    h, w = len(x), len(x[0])
    if isinstance(layer, Conv):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        kh, kw = len(weight), len(weight[0])
        out: Grid = []
        for r in range(h):
            row = []
            for c in range(w):
                total = list(bias)
                for dy in range(kh):
                    for dx in range(kw):
                        y, z = r + dy - kh // 2, c + dx - kw // 2
                        if 0 <= y < h and 0 <= z < w:
                            for i, value in enumerate(x[y][z]):
                                for o, factor in enumerate(weight[dy][dx][i]):
                                    total[o] += value * factor
                row.append([rounded(value, layer.shift) for value in total])
            out.append(row)
        return out
    if isinstance(layer, LeakyRelu):
        k = layer.slope_log2
        return [
            [[v if v >= 0 else (v + (1 << (k - 1))) >> k for v in cell] for cell in row]
            for row in x
        ]
    if isinstance(layer, Film):
        s, c = layer.stride, layer.channels
        shift = layer.gain_bits + 2 * (s.bit_length() - 1)
        out = [[[0] * c for _ in range(w)] for _ in range(h)]
        for r in range(h):
            for q in range(w):
                gain, offset = [0] * c, [0] * c
                for y in range(s):
                    for z in range(s):
                        values = layer.rows[nodes[level_map[r * s + y][q * s + z]]].tolist()
                        gain = [a + b for a, b in zip(gain, values[:c], strict=True)]
                        offset = [a + b for a, b in zip(offset, values[c:], strict=True)]
                for i in range(c):
                    value = x[r][q][i] * gain[i] + (offset[i] << layer.gain_bits)
                    out[r][q][i] = rounded(value, shift)
        return out
    assert isinstance(layer, DepthToSpace)
    b = layer.block
    c = len(x[0][0]) // (b * b)
    return [
        [[x[r // b][q // b][((r % b) * b + q % b) * c + i] for i in range(c)] for q in range(w * b)]
        for r in range(h * b)
    ]


def scene(part: IntegerPart, hz: int, wz: int, levels: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(hz * 100 + wz * 10 + levels)
    z = rng.integers(-40, 41, (hz, wz, part.hyper_channels)).astype(np.int32)
    nodes = np.sort(rng.integers(0, 1024, levels)).astype(np.int32)
    return z, nodes, rng.integers(0, levels, (hz * 4, wz * 4)).astype(np.uint8)


@pytest.mark.parametrize("hz,wz,levels", [(1, 1, 1), (2, 3, 4), (3, 2, 16)])
def test_equals_python_integers(part: IntegerPart, hz: int, wz: int, levels: int) -> None:
    z, nodes, level_map = scene(part, hz, wz, levels)
    x = z.tolist()
    for layer in part.network.layers:
        fast = layer(np.array(x, np.float64), LevelContext(nodes, level_map))
        x = slow_layer(layer, x, nodes.tolist(), level_map.tolist())
        assert fast.astype(np.int64).tolist() == x
    assert part.network.run(z, LevelContext(nodes, level_map)).tolist() == x


def test_saturates_and_is_exact_at_the_extremes() -> None:
    """Largest weights and activations, and a bias that leaves just one unit to 2^53."""
    weight = np.full((3, 3, 64, 2), -32768, np.int16)
    reach = 32768 * 32768 * 9 * 64
    for shift in (0, 1, 30, 38):
        half = (1 << shift) >> 1
        bias = np.array([2**53 - 1 - reach - half, -(2**53 - 1 - reach - half)], np.int64)
        layer = Conv(weight, bias, shift)
        x = np.random.default_rng(shift).integers(-32768, 32768, (3, 4, 64))
        context = LevelContext(np.zeros(1, np.int32), np.zeros((3, 4), np.uint8))
        fast = layer(x.astype(np.float64), context)
        assert fast.astype(np.int64).tolist() == slow_layer(layer, x.tolist(), [0], [[0]])


@pytest.mark.parametrize("shift", [0, 5, 40])
def test_a_bound_at_two_to_the_53_is_refused(shift: int) -> None:
    weight = np.full((1, 1, 1, 1), 7, np.int16)
    limit = 2**53 - 7 * 32768 - ((1 << shift) >> 1)
    Conv(weight, np.array([limit - 1], np.int64), shift)
    for bias in (limit, -limit, 2**63 - 1, -(2**63)):
        with pytest.raises(BundleError, match="2\\^53"):
            Conv(weight, np.array([bias], np.int64), shift)


def test_summation_order_does_not_matter(part: IntegerPart) -> None:
    first = part.network.layers[3]
    assert isinstance(first, Conv)
    x = np.random.default_rng(1).integers(-32768, 32768, (6, 7, 5)).astype(np.float64)
    order = np.random.default_rng(2).permutation(5)
    context = LevelContext(np.zeros(1, np.int32), np.zeros((6, 7), np.uint8))
    shuffled = Conv(first.weight[:, :, order], first.bias, first.shift)
    assert np.array_equal(first(x, context), shuffled(x[..., order], context))


@pytest.mark.parametrize("band_rows", [1, 2, 3, 5, 8])
def test_bands_do_not_matter(part: IntegerPart, band_rows: int) -> None:
    z, nodes, level_map = scene(part, 9, 4, 7)
    whole = part.network.run(z, LevelContext(nodes, level_map), band_rows=9)
    banded = part.network.run(z, LevelContext(nodes, level_map), band_rows=band_rows)
    assert np.array_equal(whole, banded)


SCRIPT = """
import hashlib, numpy as np
from rcodec_jax.entropy import Conv, IntegerNetwork, LeakyRelu, LevelContext
rng = np.random.default_rng(8)
def conv(cin, cout, shift):
    w = rng.integers(-32768, 32768, (3, 3, cin, cout)).astype(np.int16)
    return Conv(w, rng.integers(-2**33, 2**33, cout), shift)
net = IntegerNetwork([conv(24, 96, 20), LeakyRelu(), conv(96, 96, 20), conv(96, 32, 20)])
z = rng.integers(-32768, 32768, (40, 50, 24))
out = net.run(z, LevelContext(np.zeros(1, np.int32), np.zeros((40, 50), np.uint8)))
assert len(np.unique(out)) > 1000
print(hashlib.sha256(out.tobytes()).hexdigest())
"""


def test_threads_and_kernels_do_not_matter() -> None:
    digests = set()
    for setting in (
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Nehalem"},
        {"OPENBLAS_CORETYPE": "Haswell"},
    ):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, **setting},
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def small_conv(cin: int, cout: int, side: int = 1) -> Conv:
    return Conv(np.ones((side, side, cin, cout), np.int16), np.zeros(cout, np.int64), 0)


def rows(channels: int) -> np.ndarray:
    return np.zeros((1024, 2 * channels), np.int16)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [LeakyRelu()],
        [small_conv(1, 2), small_conv(3, 1)],
        [small_conv(1, 2), Film(rows(3), 4, 1), small_conv(2, 1)],
        [small_conv(1, 2), Film(rows(2), 4, 2), small_conv(2, 1)],
        [small_conv(1, 3), DepthToSpace(), small_conv(1, 1)],
        [small_conv(1, 4), DepthToSpace()],
        [small_conv(1, 256), DepthToSpace(4), DepthToSpace(4), small_conv(1, 1)],
    ],
)
def test_chains_that_do_not_fit_are_refused(layers: list) -> None:
    with pytest.raises(BundleError):
        IntegerNetwork(layers)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv(np.ones((2, 2, 1, 1), np.int16), np.zeros(1, np.int64), 0),
        lambda: Conv(np.ones((1, 1, 1, 1), np.int32), np.zeros(1, np.int64), 0),
        lambda: Conv(np.ones((1, 1, 1, 1), np.int16), np.zeros(2, np.int64), 0),
        lambda: Conv(np.ones((1, 1, 1, 1), np.int16), np.zeros(1, np.int64), -1),
        lambda: Conv(np.ones((1, 1, 0, 1), np.int16), np.zeros(1, np.int64), 0),
        lambda: LeakyRelu(0),
        lambda: LeakyRelu(True),
        lambda: DepthToSpace(3),
        lambda: Film(np.zeros((1024, 3), np.int16), 4, 1),
        lambda: Film(np.zeros((1000, 4), np.int16), 4, 1),
        lambda: Film(rows(2), 60, 1),
        lambda: Film(rows(2), 4, 3),
    ],
)
def test_improper_layers_are_refused(make) -> None:
    with pytest.raises(BundleError):
        make()


def test_a_wide_network_runs_in_bounded_memory() -> None:
    """Bands shrink with the widest layer, so a hostile model cannot ask for the machine."""
    wide = IntegerNetwork([small_conv(1, 2048), small_conv(2048, 1)])
    z = np.ones((150, 500, 1), np.int32)
    tracemalloc.start()
    wide.run(z, LevelContext(np.zeros(1, np.int32), np.zeros((150, 500), np.uint8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6  # all at once would be 1.2 GB
    with pytest.raises(BundleError, match="radius is at most 64"):
        IntegerNetwork([small_conv(1, 1, side=3)] * 65)
