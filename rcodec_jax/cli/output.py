"""Words and figures for the user: one-line messages, tables, JSON, a progress bar."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO


def message(kind: str, text: str) -> None:
    """One line on standard error: `rcodec: kind: text`."""
    print(f"rcodec: {kind}: {' '.join(str(text).split())}", file=sys.stderr, flush=True)


def notes(lines: Iterable[str]) -> None:
    """What the user should know about a result that is fine otherwise."""
    for line in lines:
        message("note", line)


def report(figures: Mapping[str, Any], text: str, *, as_json: bool, stream: TextIO) -> None:
    """Prints figures as JSON or in words."""
    print(to_json(figures) if as_json else text, file=stream, flush=True)


def to_json(value: Any) -> str:
    """JSON of plain data and NumPy scalars or arrays."""
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def counted(count: int, noun: str) -> str:
    """A number of things: "1 file", "1,234 files"."""
    return f"{count:,} {noun}{'s'[: count != 1]}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A plain table: the first `left` columns to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    padded = (
        [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def size_in_words(size_bytes: float) -> str:
    """Bytes in decimal units, as chips and disks are sold: 1234567 -> "1.2 MB"."""
    if size_bytes < 1000:
        return counted(round(size_bytes), "byte")
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:,.2f} GB"


class Progress:
    """A bar on standard error for long work; silent where that is no terminal.

    Use it as a context manager; call `update(done, total, what)` as the work proceeds.

    Attributes:
      shown: whether there is a terminal to draw it on.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self.shown = self._stream.isatty()
        self._start = time.monotonic()
        self._last = -1.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Wipes the bar, so that a line can be printed in its place."""
        if self.shown and self._last >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def update(self, done: int, total: int, what: str = "") -> None:
        """Draws the bar: `done` of `total` parts, with a word on the present one."""
        now = time.monotonic()
        if not self.shown or (now - self._last < 0.1 and done < total):
            return
        self._last = now
        share = min(done / total, 1.0) if total else 1.0
        left = (now - self._start) * (1 - share) / share if share > 0 else None
        filled = round(24 * share)
        remaining = "" if left is None else f" {_duration(left)} left"
        line = (
            f"{self._label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}{remaining} {what}"
        )
        columns = shutil.get_terminal_size().columns
        self._stream.write("\r\x1b[K" + line[: max(columns - 1, 1)])
        self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
