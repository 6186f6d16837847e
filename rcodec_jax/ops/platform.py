"""Which kind of device a program is traced for: what is fastest on one is not on another."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

ANY = "any"
"""Whichever it will be, or none: nothing that only one kind of device is good at."""

_traced_for: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "_traced_for", default=None
)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """While it lasts, programs are traced for another platform than this process runs on.

    Args:
      platform: "cpu", "gpu" or "tpu"; `ANY` for operations that compute nothing twice.
    """
    token = _traced_for.set(platform)
    try:
        yield
    finally:
        _traced_for.reset(token)


def platform() -> str:
    """What is traced for: "cpu", "gpu", "tpu" or `ANY`."""
    return _traced_for.get() or jax.default_backend()
