"""A meeting point of all processes that needs no device."""

from __future__ import annotations

from orbax.checkpoint import multihost


def wait_for_all(name: str, *, timeout_s: int = 3600) -> None:
    """Blocks until every process has come here; returns at once for a process alone.

    Collectives on CPU give up when the processes enter the first of them more than 30 s apart, as
    they may after compiling, when one of them found the program in its cache.

    Args:
      name: of this meeting; all processes come to the same ones in the same order.
      timeout_s: an error after that long.
    """
    multihost.get_barrier_sync_fn()(key=name, timeout_ms=timeout_s * 1000)
