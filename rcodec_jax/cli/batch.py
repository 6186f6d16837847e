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


def add_inputs(parser: argparse.ArgumentParser, *, metavar: str) -> None:
    """The inputs and the output, one positional list, and the options of many files.

    Args:
      metavar: of an input.
    """
    parser.usage = (
        f"%(prog)s [OPTIONS] {metavar} OUTPUT\n       %(prog)s [OPTIONS] {metavar}... --out FOLDER"
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar=f"{metavar} OUTPUT",
        help="file to read and file to write, - for standard input or output. With --out: any "
        "number of files and folders to read",
    )
    group = parser.add_argument_group("many files")
    group.add_argument("--out", metavar="FOLDER", help="folder for the results, created if missing")
    group.add_argument(
        "--resume",
        action="store_true",
        help="skip inputs whose result in the folder is up to date and, for coded files, not "
        "damaged; options and masks are not compared",
    )
    group.add_argument(
        "--workers",
        type=arguments.whole(1, 64, "a whole number in 1..64"),
        metavar="N",
        help="number of files processed at once; each takes memory (default: 2)",
    )


def set_one(args: argparse.Namespace, *, metavar: str) -> bool:
    """Finds out whether one file is meant, and then sets `args.input` and `args.output`.

    Raises:
      UsageError: neither one input and one output, nor a folder for the outputs.
    """
    if args.out is not None:
        if files.PIPE in args.paths:
            raise UsageError("--out: expected files and folders to read, got - (standard input)")
        return False
    for option, given in (("--resume", args.resume), ("--workers", args.workers is not None)):
        if given:
            raise UsageError(f"{option}: only valid with --out FOLDER")
    if len(args.paths) != 2:
        raise UsageError(
            f"expected {metavar} OUTPUT, or any number of files and folders with --out FOLDER, "
            f"got {output.counted(len(args.paths), 'path')}"
        )
    if os.path.isdir(args.paths[0]):
        raise UsageError(
            f"{args.paths[0]}: to process a folder, name one for the results: --out FOLDER"
        )
    args.input, args.output = args.paths
    return True


def jobs(
    paths: Sequence[str],
    out: str | None,
    *,
    extensions: frozenset[str],
    extension: str,
    others: str = "",
) -> list[Job]:
    """The files below some paths and where their results go.

    A folder's tree is kept. Of several inputs a folder keeps its name, too. Where two files would
    have one result (`a.jpg` and `a.png`), their own extensions stay in its name.

    Args:
      paths: files and folders; hidden files and folders inside them are left out.
      out: folder of the results, which is never searched; None where nothing is written.
      extensions: of the files in folders that count.
      extension: of the results.
      others: what else the command takes, for the error.

    Raises:
      UsageError: a path that is not there, a folder that cannot be read or has no such file.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if os.path.isdir(path):
            below = list(_below(Path(path), extensions, None if out is None else Path(out)))
            if not below:
                raise UsageError(
                    f"{path}: expected a folder with files of extension "
                    f"{' '.join(sorted(extensions))}{others}, got none"
                )
            inside = Path(Path(path).resolve().name) if len(paths) > 1 else Path()
            found += [(str(Path(path) / name), inside / name) for name in below]
        else:
            found.append((path, Path(Path(path).name)))
    if out is None:
        return [Job(source, "", source) for source, _ in found]
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out}: expected a folder to write, got a file")
    shared = Counter(os.path.normcase(name.with_suffix(extension)) for _, name in found)

    def result(name: Path) -> str:
        plain = name.with_suffix(extension)
        alone = shared[os.path.normcase(plain)] == 1
        return str(Path(out) / (plain if alone else name.with_name(name.name + extension)))

    made = [Job(source, result(name), name.as_posix()) for source, name in found]
    twice = [target for target, count in Counter(job.target for job in made).items() if count > 1]
    if twice:
        raise UsageError(
            f"{twice[0]}: expected inputs of different names, got two with this output"
        )
    return made


def _below(root: Path, extensions: frozenset[str], out: Path | None) -> Iterator[Path]:
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
            if not name.startswith(".") and Path(name).suffix.lower() in extensions:
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
                    f"{job.target}: exists already (--force overwrites it, --resume skips "
                    "finished files)"
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
    """Does the jobs that are left, continues after files that fail, and reports.

    Each failure is printed once: in a list at the end where a bar is shown, which counts them till
    then, or else as it happens, as for a log.

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
    skipped = len(all_jobs) - len(todo)
    with output.Progress(label) as bar:
        bar.update(0, len(todo), "")
        try:
            for job, figures, reason in in_order(attempt, todo, workers=args.workers or WORKERS):
                bar.clear()
                if figures is None:
                    failed.append({"input": job.source, "error": reason})
                    if not bar.shown:
                        output.message("error", f"{job.source}: {reason}")
                else:
                    made.append(figures)
                    if not args.json:
                        output.notes(f"{job.name}: {note}" for note in figures.get("notes", ()))
                        print(in_words(figures), flush=True)
                parts = [f"{len(failed)} failed"] if failed else []
                parts += [totals(made)] if made else []
                bar.update(len(made) + len(failed), len(todo), ", ".join(parts))
        except KeyboardInterrupt:
            bar.clear()
            close_failed(failed, len(all_jobs), listed=bar.shown)
            raise
    seconds = time.perf_counter() - start
    summary = {"files": made, "failed": failed, "skipped": skipped, "seconds": seconds}
    counted = f"{len(made)} of {output.counted(len(all_jobs), 'file')}"
    counted += f", {skipped} skipped" if skipped else ""
    text = f"{counted}: {totals(made)}" if made else counted
    output.report(summary, f"{text}, {seconds:.1f} s", as_json=args.json, stream=sys.stdout)
    return close_failed(failed, len(all_jobs), listed=bar.shown)


def close_failed(failed: Sequence[dict[str, str]], count: int, *, listed: bool) -> int:
    """Says at the end how many of `count` files failed; the exit code.

    Args:
      failed: path and error of each.
      count: of all files.
      listed: whether each is printed here, as nobody has seen it yet.
    """
    if not failed:
        return 0
    end = ":" if listed else ", as reported above"
    output.message("error", f"{len(failed)} of {output.counted(count, 'file')} failed{end}")
    for item in failed if listed else ():
        print(f"  {item['input']}: {item['error']}", file=sys.stderr, flush=True)
    return SOME_FAILED


def why(error: BaseException, source: str) -> str:
    """Why a file failed, in one line, without its name in front."""
    if isinstance(error, OSError):
        text = files.describe(error)
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix(f"{source}: ")


def saved_in_words(before: float, after: float) -> str:
    """What coding saved: "12.0 MB -> 0.4 MB, 97 % saved"."""
    text = f"{output.size_in_words(before)} -> {output.size_in_words(after)}"
    return f"{text}, {100 * (1 - after / before):.0f} % saved" if 0 < after <= before else text
