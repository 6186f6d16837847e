"""Types and ranges of what users hand to the codec besides arrays."""

from __future__ import annotations

import math
import numbers
import os
from typing import Any

from rcodec_jax.errors import UsageError

_process: int | None = None
"""The process whose compiled programs are in use."""


def check_number(value: Any, expected: str, low: float, high: float) -> None:
    """Raises UsageError unless a value is a number in low..high; `expected` names it."""
    if not _is_scalar(value, numbers.Real) or not low <= value <= high:
        raise UsageError(f"expected {expected}, got {_shown(value)}")


def check_whole(value: Any, expected: str, low: int, high: int) -> None:
    """Raises UsageError unless a value is a whole number in low..high, of an integer type."""
    if not _is_scalar(value, numbers.Integral):
        raise UsageError(f"expected {expected} (a whole number), got {_shown(value)}")
    if not low <= value <= high:
        raise UsageError(f"expected {expected}, got {value}")


def target_bytes(
    quality: float | None, bpp: float | None, size_bytes: int | None, pixels: int
) -> float | None:
    """The budget of at most one of the three; None where quality or nothing sets the rate.

    Raises:
      UsageError: more than one, or one that is no number above 0.
    """
    given = [
        f"{name}={value}"
        for name, value in (("quality", quality), ("bpp", bpp), ("size_bytes", size_bytes))
        if value is not None
    ]
    if len(given) > 1:
        raise UsageError(f"expected one of quality, bpp and size_bytes, got {', '.join(given)}")
    for name, value in (("bpp", bpp), ("size_bytes", size_bytes)):
        if value is not None:
            check_number(value, f"a budget above 0 as {name}", -math.inf, math.inf)
    target = size_bytes if bpp is None else bpp * pixels / 8
    if target is not None and not 0 < target < float("inf"):
        raise UsageError(f"expected a budget above 0, got {given[0]}")
    return target


def check_process() -> None:
    """Refuses to run programs in a process that was forked off one that ran some.

    XLA's threads are not copied along, so the first program there would wait for ever.

    Raises:
      UsageError: in such a process.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise UsageError(
            "this process was forked from one that had used a codec, and JAX would hang in it: "
            'start processes anew, with multiprocessing.get_context("spawn")'
        )


def _is_scalar(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind; NumPy's scalars are, strings and bools are not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else type(value).__name__
