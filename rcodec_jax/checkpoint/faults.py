"""Faults of the storage under the checkpoints, told in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rcodec_jax.errors import StorageError

# TensorStore, which writes the arrays, has no exception of its own for the system's errors.
_SYSTEM_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")


def reason(error: BaseException) -> str | None:
    """What the system said: 'No space left on device'; None for an error of another kind."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    found = _SYSTEM_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else None


@contextlib.contextmanager
def told_in_one_line(doing: str, directory: Path) -> Iterator[None]:
    """Turns errors of the storage into one line; lets all others pass.

    Args:
      doing: what failed, such as 'saving step 3'.
      directory: the checkpoints.

    Raises:
      StorageError: the storage refused.
    """
    try:
        yield
    except Exception as error:
        said = reason(error)
        if said is None:
            raise
        steps = whole_steps(directory)
        kept = f"step {steps[-1]} is whole" if steps else "no step is there"
        raise StorageError(f"{doing} in {directory} failed: {said}; {kept}") from error


def whole_steps(directory: Path) -> list[int]:
    """The steps on disk, ascending, whatever a manager thinks of saves in flight.

    A step has another name until it is whole.
    """
    try:
        return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())
    except OSError:
        return []


def check_writable(directory: Path) -> None:
    """Writes and deletes a small file.

    Orbax makes the folder of a step in the background and, where it cannot, waits ten minutes for
    it before it says so.

    Raises:
      OSError: the directory is gone or refuses.
    """
    with tempfile.TemporaryFile(dir=directory) as probe:
        probe.write(b"\0" * 4096)
        probe.flush()
        os.fsync(probe.fileno())


def _not_raised_again(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


def silence_repeated_tracebacks() -> None:
    """Keeps orbax's threads from logging, with traceback, what the next call raises anyway."""
    logging.getLogger("absl").addFilter(_not_raised_again)
