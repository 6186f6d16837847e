"""How programs are compiled, for inference and for training.

XLA's CPU back end hands single operations to a library of kernels. As of jaxlib 0.10 its matrix
products and reductions are faster than XLA's own, its convolutions slower: by up to four times at
low resolution, where channels are many, and in the gradients of weights. Its fusions of
element-wise work are left out too: one gave wrong sums in a test of ours.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_OPTIONS: dict[str, Any] = {
    _LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


def compiler_options(platform: str | None = None) -> dict[str, Any]:
    """Options for `jax.jit` of the networks on a platform, None for that of the default device.

    Empty where there is nothing to gain or to choose: on accelerators, where XLA_FLAGS already says
    which kernels to use, and with a jaxlib that does not know the option.
    """
    if (platform or jax.default_backend()) != "cpu" or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return {}
    return dict(_OPTIONS) if _is_known() else {}


@functools.cache
def _is_known() -> bool:
    zero = jnp.zeros((), jnp.int32)
    try:
        jax.jit(jnp.negative, compiler_options=_OPTIONS)(zero)
    except (RuntimeError, ValueError):  # jax.errors.JaxRuntimeError is a RuntimeError
        return False
    return True
