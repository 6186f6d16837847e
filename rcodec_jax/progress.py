"""What long work calls as it goes on."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (parts done, parts in all, what is worked on)."""


def no_progress(done: int, total: int, what: str) -> None:
    """Tells nobody."""
