"""Work on bands of rows, some at a time: NumPy lets go of Python's lock in its loops."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_VALUES = 1 << 18
"""Values of a band by default: what is made of them stays in the cache."""


def workers() -> int:
    """Bands at a time: OMP_NUM_THREADS where it is set, else the cores that this process has."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def band_rows(row_values: int, values: int = _VALUES) -> int:
    """Rows of so many values that make a band."""
    return max(1, values // max(1, row_values))


def in_bands(work: Callable[[int, int], object], height: int, rows: int) -> None:
    """Calls `work(top, bottom)` for bands that partition 0..height; errors are raised.

    Args:
      work: must write to rows of its own alone.
      height: rows in all.
      rows: of a band.
    """
    bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    most = min(workers(), len(bands))
    if most <= 1:
        for band in bands:
            work(*band)
        return
    from threadpoolctl import threadpool_limits  # late: a command that needs none starts faster

    # BLAS on the thread that asks for it: threads of its own would wait for each other in loops, a
    # fifth of a decode on idle cores and six times all of it on busy ones.
    names = "rcodec-bands"
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(most, thread_name_prefix=names) as pool:
        for _ in pool.map(lambda band: work(*band), bands):
            pass
