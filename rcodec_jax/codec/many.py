"""Work on many pictures in one process: a few at a time, in order, each program compiled once."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec.checks import check_whole
from rcodec_jax.codec.tiling import bucket, tile_size
from rcodec_jax.errors import BitstreamError
from rcodec_jax.levels import CELL_PX

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 2
"""Pictures at a time. While the networks of one keep all cores busy, another is read or coded."""

MAX_WORKERS = 1024


def in_order(work: Callable[[T], R], items: Iterable[T], *, workers: int = WORKERS) -> Iterator[R]:
    """Results of some work in the order of its items, `workers` at a time.

    Items are taken as results are, so that no more than twice `workers` are under way. An error
    of the work is raised in its place; what has not begun then never does.

    Raises:
      UsageError: workers that are no whole number of 1..`MAX_WORKERS`.
    """
    check_whole(workers, f"1..{MAX_WORKERS} workers", 1, MAX_WORKERS)
    if workers == 1:
        yield from map(work, items)
        return
    ahead: collections.deque[Future[R]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="rcodec") as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) >= 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class FirstAlone:
    """Lets the first piece of each kind of work finish before others of its kind begin.

    What the first compiles the others then find, instead of compiling the same beside it. Use one
    object for all threads: `with first_alone(kind): ...`.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._done: set[Hashable] = set()

    @contextlib.contextmanager
    def __call__(self, kind: Hashable) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(kind, threading.Lock())
        with lock:
            if kind not in self._done:
                yield
                self._done.add(kind)
                return
        yield


def programs_of(height_px: int, width_px: int) -> tuple[int, int]:
    """Pictures for which this is the same run through the same compiled programs.

    Returns:
      Sides of the picture's bucket in cells; beyond the largest, those of its tiles.
    """
    rows, columns = (bucket(-(-side // CELL_PX)) for side in (height_px, width_px))
    return tile_size((rows, columns))


def file_programs(data: bytes) -> tuple[int, int] | None:
    """`programs_of` the picture in a file; None of a damaged one: decoding says what is wrong."""
    try:
        header = read_container(data).header
    except BitstreamError:
        return None
    return programs_of(*header.coded_size)
