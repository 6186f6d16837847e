"""What an evaluation has measured so far, written as it comes, so that the same one can go on.

A journal is a file of JSON lines that only grows. Its first line says what the figures were made
and measured with; each other line has the key of an entry and what was found. A line that a crash
cut off is left out and measured again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rcodec_jax.errors import StorageError, UsageError
from rcodec_jax.files import atomic_write, read_json_lines

ROWS = "rows.jsonl"
ROI_ROWS = "roi.jsonl"
"""Names of the journals of both evaluations, in the folder that they write."""

GO_ON = "what was measured is kept, and the same command goes on with it"

_LAST = ("encode_seconds", "decode_seconds", "ssimulacra2", "model", "frechet", "fid256", "dists")
"""The last columns of rows and curves in files, where programs may count on their order."""

T = TypeVar("T")


class Journal:
    """Entries by key, in memory and in a file.

    Args:
      path: the file; its folder exists.
      circumstances: what an entry has to share to be of use: model, options; JSON values.
      anew: begin again, whatever the file holds.

    Raises:
      UsageError: the file holds figures of other circumstances.
      StorageError: it cannot be written.
    """

    def __init__(self, path: Path, circumstances: Mapping[str, Any], *, anew: bool = False) -> None:
        self._path = path
        self._entries: dict[tuple[str, ...], Any] = {}
        lines = [] if anew else read_json_lines(path)
        settings = json.loads(json.dumps(circumstances))
        if anew and path.is_file():
            path.unlink()
        if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._write("\n")
        if not lines:
            self._append({"with": settings})
            return
        _check_same(path, lines[0].get("with"), settings)
        for line in lines[1:]:
            if "key" in line:
                self._entries[tuple(line["key"])] = line.get("found")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self._entries

    def find(self, key: tuple[str, ...], kind: type[T]) -> T:
        """The dataclass instance that was added under `key`. Raises KeyError if none was."""
        return _restored(kind, self._entries[key])

    def add(self, key: tuple[str, ...], found: Any) -> None:
        """Notes a dataclass instance. Raises StorageError if it cannot be written."""
        plain = _plain(flat(found))
        self._append({"key": list(key), "found": plain})
        self._entries[key] = plain

    def _append(self, line: Mapping[str, Any]) -> None:
        self._write(json.dumps(line) + "\n")

    def _write(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be written: {error.strerror or error}; {GO_ON}"
            ) from error


def flat(record: Any) -> dict[str, Any]:
    """A dataclass instance as its fields by name; each of its `figures`, if any, is one."""
    plain = dataclasses.asdict(record)
    if "figures" in plain:
        plain |= plain.pop("figures")
        plain |= {name: plain.pop(name) for name in _LAST if name in plain}
    return plain


def digest(*paths: Path) -> str:
    """16 hexadecimal digits that tell files by their bytes; a file that cannot be read is empty."""
    whole = hashlib.sha256()
    for path in paths:
        try:
            part = path.read_bytes()
        except OSError:
            part = b""
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


def keep(path: Path, data: bytes) -> None:
    """Writes a coded file beside the journal, with its folder. Raises StorageError if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data)
    except (OSError, UsageError) as error:
        raise StorageError(f"{error}; {GO_ON}") from error


def _check_same(path: Path, there: Any, here: Mapping[str, Any]) -> None:
    if not isinstance(there, dict):
        raise UsageError(f"{path}: expected the rows of an evaluation, got another file")
    for name in dict.fromkeys([*here, *there]):
        if there.get(name) != here.get(name):
            raise UsageError(
                f"{path}: expected rows of the same model and options to go on with, got {name} "
                f"{there.get(name)!r} there and {here.get(name)!r} now (another --out keeps both; "
                "--force begins again)"
            )


def _plain(value: Any) -> Any:
    """JSON has no infinities: they are written in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _numbers(value: Any) -> Any:
    """The floats that `_plain` wrote in words, at any depth of lists."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def _restored(kind: type[T], found: Mapping[str, Any]) -> T:
    assert dataclasses.is_dataclass(kind)
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    values, figures = {}, {}
    for name, value in found.items():
        if name in types:
            values[name] = _numbers(value) if "float" in types[name] else value
        else:
            figures[name] = _numbers(value)
    if "figures" in types:
        values["figures"] = figures
    restored: T = kind(**values)
    return restored
