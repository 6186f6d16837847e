"""The nano bundle, loaded once, and pictures for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import jax  # its import draws unseeded numbers, which tests may not
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from rcodec_jax.codec.codec import Codec
from rcodec_jax.model.bundle import Bundle, load_bundle
from rcodec_jax.model.trees import unflatten

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden() -> ModuleType:
    """The module tests/golden/make.py, with HERE the folder of the golden files."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(GOLDEN / "nano")


@pytest.fixture(scope="session")
def codec(bundle: Bundle) -> Codec:
    """One codec for all tests: its compiled programs are most of their time."""
    return Codec(bundle)


@pytest.fixture(scope="session")
def floats(golden) -> dict:
    """hyper_synthesis, hyper_prior and ranges of the nano run."""
    with np.load(golden.HERE / "nano_entropy_floats.npz") as arrays:
        tree = unflatten({name: arrays[name] for name in arrays.files})
    ranges = {name: float(value) for name, value in tree.pop("ranges").items()}
    return jax.tree.map(jnp.asarray, tree) | {"ranges": ranges}


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real photo, uint8 [512,512,3]."""
    return np.asarray(data.astronaut())


@pytest.fixture(scope="session")
def photos(astronaut: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures of 200x300 pixels that differ in kind."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:200, :300] / 300.0
    slope = np.stack([row, column, 1 - row], axis=-1) * 255
    return {
        "face": np.ascontiguousarray(astronaut[20:220, 110:410]),
        "cat": np.asarray(data.chelsea())[60:260, 60:360],
        "slope": slope.astype(np.uint8),
        "noise": rng.integers(0, 256, (200, 300, 3)).astype(np.uint8),
    }
