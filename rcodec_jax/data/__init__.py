"""Pictures in and out, sources and the training loader. Imports no other part of rcodec.

Lazy, so that reading a picture needs nothing of what training reads with.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "ImageFolder": "sources.sources",
    "LatentSet": "sources.latents",
    "Mixture": "sources.mixture",
    "Picture": "pictures.images",
    "Source": "sources.mixture",
    "listing_digest": "sources.digest",
    "make_dataset": "loading.loader",
    "open_source": "sources.resolve",
    "read_image": "pictures.images",
    "read_mask": "pictures.masks",
    "select": "sources.mixture",
    "write_image": "pictures.writing",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
