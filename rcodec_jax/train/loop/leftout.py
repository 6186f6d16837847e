"""Files of a run's picture folders that it does without: told, counted and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from rcodec_jax.data import ImageFolder, Source
from rcodec_jax.files import atomic_write

SKIPPED = "skipped.txt"
"""In the run's folder: a line for each file, with the reason."""

MAX_NAMED = 3


def tell_skipped(sources: Iterable[Source], workdir: Path, say: Callable[[str], None]) -> None:
    """Says what was left out when the folders were opened, by count and kind, and lists it.

    Args:
      sources: of the run.
      workdir: its folder; the first process writes `SKIPPED` there, if there is anything to list.
      say: called with a line for each folder that left something out.
    """
    folders = [source for source in sources if isinstance(source, ImageFolder)]
    for folder in folders:
        parts = [
            f"{count} {why}"
            for count, why in (
                (folder.small_count, f"below {folder.min_side} px a side"),
                (len(folder.skipped) - folder.small_count, "that cannot be opened"),
            )
            if count
        ]
        line = f"left out {' and '.join(parts)} ({_named(folder, folder.skipped)})"
        kinds = sorted(folder.other_kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        others = f"no kind of picture that is read: {', '.join(f'{n} {end}' for end, n in kinds)}"
        lines = [line] * bool(parts) + [others] * bool(kinds)
        if lines:
            say(f"{folder.root}: {folder.picture_count} pictures; {'; '.join(lines)}")
    _list(folders, workdir)


def tell_damaged(sources: Iterable[Source], workdir: Path, say: Callable[[str], None]) -> None:
    """The same of pictures that turned out to be damaged while they were read by this process."""
    folders = [source for source in sources if isinstance(source, ImageFolder)]
    for folder in folders:
        if folder.damaged:
            say(
                f"{folder.root}: {len(folder.damaged)} of {folder.picture_count} pictures were "
                f"damaged, others stood in ({_named(folder, folder.damaged)})"
            )
    _list(folders, workdir)


def _named(folder: ImageFolder, found: list[tuple[Path, str]]) -> str:
    names = [path.relative_to(folder.root).as_posix() for path, _ in found[:MAX_NAMED]]
    more = len(found) - MAX_NAMED
    return ", ".join(names) + (f" and {more} more, all in {SKIPPED}" if more > 0 else "")


def _list(folders: Iterable[ImageFolder], workdir: Path) -> None:
    lines = [
        f"{path}: {reason.removeprefix(f'{path}: ')}\n"
        for folder in folders
        for path, reason in [*folder.skipped, *folder.damaged]
    ]
    if lines and jax.process_index() == 0:
        path = workdir / SKIPPED
        before = path.read_text(errors="surrogateescape") if path.exists() else ""
        listed = dict.fromkeys([*before.splitlines(keepends=True), *lines])  # those of a restart
        atomic_write(path, "".join(listed).encode(errors="surrogateescape"))
