"""Input and output files of the command: pipes, refusing to overwrite, nothing half written."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from rcodec_jax.errors import BitstreamError, UsageError

PIPE = "-"


def read_input(path: str, *, expected: str) -> bytes:
    """Reads a whole file, or standard input for `-`.

    Args:
      path: where to read.
      expected: what kind of file it should be, for errors.

    Raises:
      UsageError: nothing there, unreadable or empty.
    """
    if path == PIPE:
        data = sys.stdin.buffer.read()
        if not data:
            raise UsageError(f"standard input: expected {expected}, got nothing")
        return data
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: expected {expected}, got: {describe(error)}") from None
    if not data:
        raise UsageError(f"{path}: expected {expected}, got an empty file")
    return data


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """What is found wrong with the bytes of a file meanwhile is told with its name."""
    name = "standard input" if path == PIPE else path
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{name}: {error.reason}", offset=error.offset) from error


def describe(error: OSError) -> str:
    """The reason of an OSError in words, without number and path."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def check_output(path: str, *, force: bool, inputs: tuple[str, ...] = ()) -> None:
    """Refuses an output file before any work is done for it.

    Args:
      path: where the result will go; `-` is standard output.
      force: whether a file that exists may be replaced.
      inputs: paths that the command reads, which an output must never replace.

    Raises:
      UsageError: it exists and `force` is not set, is a folder or one of the inputs, cannot be
        written, or standard output is a terminal.
    """
    if path == PIPE:
        if sys.stdout.isatty():
            raise UsageError("standard output: expected a pipe or a file, got a terminal")
        return
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{path}: expected a file to write, got a folder")
    for source in inputs:
        if (
            source != PIPE
            and target.exists()
            and Path(source).exists()
            and (target.samefile(source))
        ):
            raise UsageError(f"{path}: expected an output other than the input, got the same file")
    if is_regular(target) and target.exists() and not force:
        raise UsageError(f"{path}: exists already (--force overwrites it)")
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise UsageError(f"{path}: expected an existing folder, got {str(folder)!r}")
    if is_regular(target) and not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: expected a writable folder, got {str(folder)!r}")


def check_folder(
    path: str, *, force: bool, own: Collection[str] = (), source: str | None = None
) -> Path:
    """Refuses an output folder that holds something already, unless `force` is set.

    Args:
      path: the folder, which need not exist.
      force: whether it may hold anything.
      own: names of files that may be there in any case, as the command wrote them itself.
      source: a folder that the command reads, which must be another.

    Raises:
      UsageError: it is a file or the source, or holds something else and `force` is not set.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{path}: expected a folder to write, got a file")
    if source is not None and folder.resolve() == Path(source).resolve():
        raise UsageError(f"{path}: expected a folder other than the source, got the same one")
    if folder.is_dir() and not force:
        strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in own)
        if strange:
            raise UsageError(
                f"{path}: expected an empty folder, got one that contains {strange[0]!r} "
                "(--force writes into it)"
            )
    return folder


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by path from there."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_regular(path: Path) -> bool:
    """True for an ordinary file or none at all; false for a device or a named pipe."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def write_output(path: str, data: bytes) -> None:
    """Writes a whole file at once: beside the target, then renamed over it. `-` is stdout.

    Raises:
      UsageError: the file cannot be written.
    """
    if path == PIPE:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    from rcodec_jax.files import atomic_write

    atomic_write(path, data)
