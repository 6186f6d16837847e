"""Strict settings for all tests: eight CPU devices, no silent broadcasting, fixed randomness.

Warnings are errors as well; that list, with its few third-party exceptions, is in pyproject.toml.
"""

from __future__ import annotations

import atexit
import dataclasses
import gc
import os
import random
import shutil
import tempfile
from collections.abc import Callable

# Before JAX is imported by any test: the tests are about numbers, not about the accelerator of
# the machine they happen to run on, unless it is named, and shardings need several devices.
os.environ["JAX_PLATFORMS"] = os.environ.get("RCODEC_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# A bare `a + b` of different ranks is where a map [B,h,w] meets [h,w,C] by accident.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Compiling is most of the tests' time: what one process compiles is kept for all others of this
# run, those of pytest-xdist and of commands that tests start; none of it in the user's folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _programs = tempfile.mkdtemp(prefix="rcodec-tests-")
    atexit.register(shutil.rmtree, _programs, ignore_errors=True)
    os.environ["RCODEC_CACHE_DIR"] = os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# And XLA is to compile quickly, in commands that tests start as well: with few optimisations, by
# its older code generator, in one piece. What is compiled runs for moments; it takes half the time.
_QUICK = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
_flags = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*_flags, *(flag for flag in _QUICK if flag not in _flags)])

# Tracing makes many objects and little garbage, which Python would otherwise look for all the time.
gc.set_threshold(100_000, 20, 20)

import hypothesis
import jax  # noqa: F401  (its first import draws a random number, which a test may not)
import numpy as np
import pytest

from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.networks import parameter_shapes
from rcodec_jax.model.trees import flatten, unflatten

# Derandomised, so that a failure on one machine is a failure on all; no deadline, since the first
# example of a jitted function also compiles.
hypothesis.settings.register_profile(
    "rcodec", derandomize=True, deadline=None, max_examples=50, database=None
)
# `make fuzz`: another search each time, and long. It prints how to repeat what it finds.
hypothesis.settings.register_profile(
    "fuzz", deadline=None, max_examples=5000, database=None, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("RCODEC_HYPOTHESIS_PROFILE", "rcodec"))

SLOW = ("multihost", "train", "export", "codec")
"""Folders of the files that take longest: they come first, so that no process ends with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.parent.name, len(place)))


@pytest.fixture(scope="session")
def with_hints() -> Callable[[Bundle], Bundle]:
    """Gives a bundle's model hints for the decoder, through random weights that are not small."""

    def hinted(bundle: Bundle) -> Bundle:
        config = dataclasses.replace(bundle.config, decoder_features=4, decoder_noise=True)
        rng, params = np.random.default_rng(0), flatten(bundle.params)
        for path, shape in parameter_shapes(config).items():
            if path not in params and path.partition("/")[0] in bundle.params:
                norm = path.endswith("scale")
                params[path] = (norm + 0.1 * rng.standard_normal(shape)).astype(np.float32)
        return dataclasses.replace(bundle, config=config, params=unflatten(params))

    return hinted


def _refuse(name: str):
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"{name} without a seed: use np.random.default_rng(seed)")

    return refused


@pytest.fixture(autouse=True)
def no_unseeded_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes global generators fail or repeat: whoever needs numbers at random passes a seed."""
    seeded = np.random.default_rng

    def default_rng(seed: object = None) -> np.random.Generator:
        if seed is None:
            raise AssertionError("np.random.default_rng() without a seed")
        return seeded(seed)  # type: ignore[arg-type]

    monkeypatch.setattr(np.random, "default_rng", default_rng)
    for name in ("rand", "randn", "randint", "random", "normal", "uniform", "permutation"):
        monkeypatch.setattr(np.random, name, _refuse(f"np.random.{name}"))
    random.seed(0)  # libraries under test may draw from it; they draw the same every time
