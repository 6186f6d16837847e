"""rcodec: a region-adaptive generative image codec. Importing this package imports no JAX.

    codec = rcodec_jax.load()                       # the shipped model; load("bundle/") for another
    data = codec.encode("photo.png", bpp=0.2)       # a path, a Pillow picture or an array
    pixels = codec.decode(data)                     # uint8 [H, W, 3]

`Codec` has `encode`, `decode`, `encode_detailed`, `encode_many`, `decode_many` and `card`. Errors
that a caller may want to catch are in `rcodec_jax.errors`, all of them `RcodecError`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = ["Codec", "__version__", "load"]

_LAZY = {"Codec": "rcodec_jax.codec", "load": "rcodec_jax.codec"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
