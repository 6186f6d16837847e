"""One integer network, many arithmetics: threads, kernels, orders, integers and JAX agree."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("integer_network.py")


def _has(feature: str) -> bool:
    path = Path("/proc/cpuinfo")
    return path.is_file() and feature in path.read_text(encoding="utf-8", errors="ignore")


X86 = platform.machine() in ("x86_64", "AMD64")
KERNELS = [
    *(["Prescott", "Nehalem"] if X86 else []),
    *(["Sandybridge"] if X86 and _has(" avx ") else []),
    *(["Haswell", "Zen"] if X86 and _has(" avx2 ") else []),
    *(["SkylakeX"] if X86 and _has(" avx512f ") else []),
]
SETTINGS = [
    *({"OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n} for n in ("1", "2", "4")),
    *({"OPENBLAS_CORETYPE": kernel} for kernel in KERNELS),
]


@pytest.fixture(scope="module")
def other() -> ModuleType:
    """The script beside this file."""
    spec = importlib.util.spec_from_file_location("integer_network", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(other) -> dict[str, list[str]]:
    return {name: other.by_package(network) for name, network in other.networks().items()}


def elsewhere(way: str, variables: dict[str, str]) -> dict[str, list[str]]:
    """What the script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), way],
        env=os.environ | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("variables", SETTINGS, ids=lambda variables: "-".join(variables.values()))
def test_threads_and_blas_kernels(expected, variables) -> None:
    assert elsewhere("numpy", variables) == expected


def test_jax_in_double_precision(expected) -> None:
    """im2col and matrix products, as on a GPU."""
    assert elsewhere("jax", {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}) == expected


def test_the_scenes_say_something(other) -> None:
    """Most outputs differ from each other, and some saturate on the way."""
    for network in other.networks().values():
        ordinary, ends = other.scenes(network)
        assert np.unique(network.run(*ordinary)).size > 300
        first = network.layers[0](ends[0].astype(np.float64), None)
        assert (np.abs(first) >= 32767).any()


def _permuted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    order = np.random.default_rng(a.shape[1]).permutation(a.shape[1])
    return a[:, order] @ b[order]


def _backwards_in_pieces(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros((a.shape[0], b.shape[1]))
    for last in range(a.shape[1], 0, -5):
        piece = slice(max(last - 5, 0), last)
        out += a[:, piece] @ b[piece]
    return out


@pytest.mark.parametrize("dot", [np.matmul, _permuted, _backwards_in_pieces])
def test_order_of_summation(other, expected, dot) -> None:
    for name, network in other.networks().items():
        found = [other.run(network, s, np, np.float64, dot) for s in other.scenes(network)]
        assert [other.digest(values) for values in found] == expected[name]


def test_integers_of_64_bits(other, expected) -> None:
    for name, network in other.networks().items():
        found = [other.run(network, s, np, np.int64, np.matmul) for s in other.scenes(network)]
        assert [other.digest(values) for values in found] == expected[name]


def test_integers_of_any_size(other) -> None:
    """Python's own: nothing can wrap around or round."""
    network = other.made()
    for scene in other.scenes(network, size=(3, 2)):
        found = other.run(network, scene, np, object, np.dot)
        np.testing.assert_array_equal(found.astype(np.int64), network.run(*scene))
