"""Files that are written while something may stop the program, and read all the same."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from rcodec_jax.errors import UsageError

_ENDINGS = "png jpg jpeg jpe jfif webp avif tif tiff bmp gif ppm pgm pnm jp2 qoi heic heif jxl"
PICTURES = frozenset(map(".{}".format, _ENDINGS.split(" ")))
"""Endings of the files that count as pictures in a folder."""


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file beside its place and renames it there.

    A path that exists and is not a regular file (a device, a pipe) is written directly.

    Raises:
      UsageError: the folder is missing or not writable, or the path is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: expected a file name, got a folder")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        # Through a link, the file it points to is replaced and the link stays.
        place = target.resolve() if target.is_symlink() else target
        beside = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}.part")
        try:
            # Opened with mode 0o666 so that the umask decides, as for any other file.
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            os.replace(beside, place)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a value as JSON for people to read, a line per entry; otherwise as `atomic_write`."""
    atomic_write(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, in order; none where there is no file.

    Lines that a crash cut off are left out.
    """
    source = Path(path)
    if not source.is_file():
        return []
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
