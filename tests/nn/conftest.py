"""Parameters without compiling an initialiser: most of these tests' time is compilation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _filled(module: Any, *inputs: Any, scale: float = 0.3) -> Any:
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32), shapes
    )


@pytest.fixture(scope="session")
def filled():
    """filled(module, *inputs) -> variables drawn from a normal distribution, none left at zero."""
    return _filled
