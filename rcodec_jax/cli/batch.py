"""Many files in one run of a command: which ones, where each result goes, what became of them."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rcodec_jax.cli import arguments, files, output
from rcodec_jax.errors import RcodecError, UsageError

SOME_FAILED = 1
"""Exit code of a run that made some of its files and not others."""

CODED = frozenset({".rdc"})

Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """One file of many.

    Attributes:
      source: path to read.
      target: path to write, empty where nothing is written.
      name: the source as it is shown, from the folder that was named.
    """

    source: str
    target: str
    name: str


def add_inputs(parser: argparse.ArgumentParser, *, metavar: str, result: str, what: str) -> None:
    """The inputs and the output, one positional list, and the options of many files.

    Args:
      metavar: of an input.
      result: metavar of the output.
      what: what is read, for the help.
    """
    parser.add_argument(
        "paths",
        nargs="+",
        metavar=metavar,
        help=f"{what} to read and then the {result} to write, - for standard input and output; "
        "with --out any number of files and folders to read",
    )
    group = parser.add_argument_group("many files")
    group.add_argument("--out", metavar="FOLDER", help="folder for the results, made if need be")
    group.add_argument(
        "--resume",
        action="store_true",
        help="skip what has a result in the folder already that is no older and, of coded files, "
        "not damaged; options and masks are not compared",
    )
    group.add_argument(
        "--workers",
        type=arguments.whole(1, 64, "a whole number in 1..64"),
        metavar="N",
        help="files at a time, each of which takes memory (default: 2)",
    )


def set_one(args: argparse.Namespace, *, metavar: str, result: str) -> bool:
    """Finds out whether one file is meant, and then sets `args.input` and `args.output`.

    Raises:
      UsageError: neither one input and one output, nor a folder for the outputs.
    """
    if args.out is not None:
        if files.PIPE in args.paths:
            raise UsageError("--out: expected files and folders to read, got - (a pipe)")
        return False
    for option, given in (("--resume", args.resume), ("--workers", args.workers is not None)):
        if given:
            raise UsageError(f"{option}: expected --out FOLDER with it, got none")
    if len(args.paths) != 2:
        raise UsageError(
            f"expected {metavar} {result}, or any number of files and folders with --out FOLDER, "
            f"got {len(args.paths)} path{'s'[: len(args.paths) > 1]}"
        )
    if os.path.isdir(args.paths[0]):
        raise UsageError(f"{args.paths[0]}: a folder needs --out FOLDER for its results")
    args.input, args.output = args.paths
    return True


def jobs(
    paths: Sequence[str],
    out: str | None,
    *,
    endings: frozenset[str],
    ending: str,
    others: str = "",
) -> list[Job]:
    """The files below some paths and where their results go.

    A folder's tree is kept. Of several inputs a folder keeps its name, too. Where two files would
    have one result (`a.jpg` and `a.png`), their own endings stay in its name.

    Args:
      paths: files and folders; hidden files and folders inside them are left out.
      out: folder of the results, which is never searched; None where nothing is written.
      endings: of the files in folders that count.
      ending: of the results.
      others: what else the command takes, for the error.

    Raises:
      UsageError: a path that is not there, a folder that cannot be read or has no such file.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if os.path.isdir(path):
            below = list(_below(Path(path), endings, None if out is None else Path(out)))
            if not below:
                raise UsageError(
                    f"{path}: expected a folder with files ending in "
                    f"{' '.join(sorted(endings))}{others}, got none"
                )
            inside = Path(Path(path).resolve().name) if len(paths) > 1 else Path()
            found += [(str(Path(path) / name), inside / name) for name in below]
        else:
            found.append((path, Path(Path(path).name)))
    if out is None:
        return [Job(source, "", source) for source, _ in found]
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out}: expected a folder to write, got a file")
    shared = Counter(os.path.normcase(name.with_suffix(ending)) for _, name in found)

    def result(name: Path) -> str:
        plain = name.with_suffix(ending)
        alone = shared[os.path.normcase(plain)] == 1
        return str(Path(out) / (plain if alone else name.with_name(name.name + ending)))

    made = [Job(source, result(name), name.as_posix()) for source, name in found]
    twice = [target for target, count in Counter(job.target for job in made).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]}: expected files of different names, got two for this one")
    return made


def _below(root: Path, endings: frozenset[str], out: Path | None) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise UsageError(f"{error.filename}: {files.describe(error)}") from error

    own = None if out is None else out.resolve()
    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (Path(folder) / name).resolve() != own
        )
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in endings:
                yield (Path(folder) / name).relative_to(root)


def to_do(all_jobs: Sequence[Job], *, force: bool, resume: bool) -> list[Job]:
    """The jobs that are left to do.

    Raises:
      UsageError: results are there already, and neither `force` nor `resume` is set.
    """
    for job in all_jobs:
        if os.path.exists(job.target) and os.path.exists(job.source):
            if os.path.samefile(job.source, job.target):
                raise UsageError(f"{job.target}: expected an output other than the input")
            if not (force or resume):
                raise UsageError(
                    f"{job.target}: exists already (--force overwrites, --resume skips what is "
                    "done)"
                )
    return [job for job in all_jobs if not (resume and _is_done(job))]


def _is_done(job: Job) -> bool:
    try:
        made, source = os.stat(job.target), os.stat(job.source)
    except OSError:
        return False
    if not made.st_size or made.st_mtime_ns < source.st_mtime_ns:
        return False
    if Path(job.target).suffix not in CODED:
        return True
    from rcodec_jax.bitstream import read_container

    try:
        read_container(Path(job.target).read_bytes())
    except (RcodecError, OSError):
        return False
    return True


def run(
    args: argparse.Namespace,
    all_jobs: Sequence[Job],
    work: Callable[[Job], Figures],
    *,
    label: str,
    in_words: Callable[[Figures], str],
    totals: Callable[[Sequence[Figures]], str],
) -> int:
    """Does the jobs that are left, goes on past files that cannot be done, and reports.

    Args:
      args: options of `add_inputs`, `--force` and `--json`.
      all_jobs: what `jobs` gave.
      work: does one job, in a thread of its own, and returns its figures; "notes" are for the user.
      label: of the progress bar.
      in_words: the line for one file.
      totals: bytes read and written so far, in words.

    Returns:
      The exit code: 0, or SOME_FAILED.
    """
    from rcodec_jax.codec.many import WORKERS, in_order

    todo = to_do(all_jobs, force=args.force, resume=args.resume)
    start = time.perf_counter()

    def attempt(job: Job) -> tuple[Job, Figures | None, str]:
        try:
            os.makedirs(Path(job.target).parent, exist_ok=True)
            return job, work(job), ""
        except (RcodecError, OSError, MemoryError, RuntimeError) as error:
            return job, None, why(error, job.source)

    made: list[Figures] = []
    failed: list[dict[str, str]] = []
    with output.Progress(label) as bar:
        bar.update(0, len(todo), "")
        for job, figures, reason in in_order(attempt, todo, workers=args.workers or WORKERS):
            bar.clear()
            if figures is None:
                failed.append({"input": job.source, "error": reason})
                output.message("error", f"{job.source}: {reason}")
            else:
                made.append(figures)
                if not args.json:
                    output.notes(f"{job.name}: {note}" for note in figures.get("notes", ()))
                    print(in_words(figures), flush=True)
            bar.update(len(made) + len(failed), len(todo), totals(made))
    seconds = time.perf_counter() - start
    skipped = len(all_jobs) - len(todo)
    summary = {"files": made, "failed": failed, "skipped": skipped, "seconds": seconds}
    counted = f"{len(made)} of {len(all_jobs)} files" + (f", {skipped} skipped" if skipped else "")
    output.report(
        summary,
        f"{counted}: {totals(made)}, {seconds:.1f} s",
        as_json=args.json,
        stream=sys.stdout,
    )
    return list_failed(failed)


def list_failed(failed: Sequence[dict[str, str]]) -> int:
    """Lists the files that could not be done at the end, where they are seen; the exit code."""
    if not failed:
        return 0
    output.message("error", f"{len(failed)} could not be done:")
    for item in failed:
        print(f"  {item['input']}: {item['error']}", file=sys.stderr, flush=True)
    return SOME_FAILED


def why(error: BaseException, source: str) -> str:
    """Why a file could not be done, in one line, without its name in front."""
    if isinstance(error, OSError):
        text = files.describe(error)
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix(f"{source}: ")


def saved_in_words(before: float, after: float) -> str:
    """What coding saved: "12.0 MB -> 0.4 MB, 97 % saved"."""
    text = f"{output.size_in_words(before)} -> {output.size_in_words(after)}"
    return f"{text}, {100 * (1 - after / before):.0f} % saved" if 0 < after <= before else text
