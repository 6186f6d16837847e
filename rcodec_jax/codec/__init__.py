"""Pictures to files and back, and freezing what training made.

Lazy, so that reading a file's symbols (`codec.symbols`) needs no JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "Codec": "rcodec_jax.codec.codec",
    "Encoded": "rcodec_jax.codec.encode",
    "load": "rcodec_jax.codec.codec",
    "freeze": "rcodec_jax.model.freezing",
}

__all__ = ["Codec", "Encoded", "freeze", "load"]  # noqa: F822 (resolved below)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
