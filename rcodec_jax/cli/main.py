"""The command `rcodec`: finds the subcommand, runs it, turns errors into one line and a code.

Exit codes: 0 done, 1 some of many files could not be done (they are listed), 2 bad input, 3 a plan
that does not fit, 74 storage that failed during a run, 75 saved after SIGTERM, 130 interrupted, 141
the reader of a pipe went away; 1 also for a device that could not be started for training, or a
fault in rcodec itself (with a traceback, because that one should be reported).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import keyword
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

from rcodec_jax.cli import environment, output
from rcodec_jax.cli.files import describe
from rcodec_jax.cli.parser import Parser
from rcodec_jax.cli.train import SAVED
from rcodec_jax.errors import RcodecError, StorageError

COMMANDS = (
    "encode",
    "decode",
    "info",
    "verify",
    "train",
    "plan",
    "data",
    "freeze",
    "fit",
    "realism",
    "import",
    "export",
    "eval",
    "ablate",
    "bench",
    "demo",
    "app",
)

FAULT = 1
BAD_INPUT = 2
STORAGE = 74  # EX_IOERR
INTERRUPTED = 130
BROKEN_PIPE = 141

_NO_BACKEND = "Unable to initialize backend"
"""JAX says so of a device that it was to use and could not start."""


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"rcodec {version()}")
        parser.exit()


def version() -> str:
    """Version of the installed package."""
    import rcodec_jax

    return rcodec_jax.__version__


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command with all subcommands, or some; imports nothing heavy."""
    parser = Parser(
        prog="rcodec",
        description="A region-adaptive generative image codec.",
        epilog="Run 'rcodec COMMAND --help' for the options of a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for name in commands:
        module = f"{name}_" if keyword.iskeyword(name) else name
        importlib.import_module(f"rcodec_jax.cli.{module}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: its arguments without the program's name; None for those of the process.

    Returns:
      The exit code.
    """
    try:
        code = _told(argv)
    except BaseException:
        if _is_one_of_many():
            traceback.print_exc()
            _end_at_once(FAULT)
        raise
    if code not in (0, SAVED) and _is_one_of_many():
        _end_at_once(code)
    return code


def _told(argv: Sequence[str] | None) -> int:
    """Runs the command; an error becomes a line and a code."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python would complain again when it flushes standard output at exit.
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("rcodec: interrupted", file=sys.stderr)
        return INTERRUPTED
    except RcodecError as error:
        output.message("error", str(error))
        if isinstance(error, StorageError):
            return STORAGE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        output.message("error", f"{name}{describe(error)}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rcodec_jax"):
            raise
        output.message(
            "error",
            f"this command needs the package {error.name!r}, which is not installed (see the "
            "extras in the README)",
        )
    except RuntimeError as error:
        if not _is_device_error(error):
            raise
        output.message("error", f"this device is not available: {str(error).splitlines()[0]}")
    return BAD_INPUT


def _run(argv: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if argv is None else argv
        # Only its own modules are imported for a command that is named; all are, to list them.
        named = words[:1] if words and words[0] in COMMANDS else COMMANDS
        args = build_parser(named).parse_args(words)
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    if argv is None and getattr(args, "huge_pages", False):
        environment.restart_with_huge_pages()
    environment.prepare(
        threads=getattr(args, "threads", None),
        device=getattr(args, "device", None),
        cpu_devices=getattr(args, "devices", None),
        uses_jax=getattr(args, "uses_jax", False),
    )
    trains = getattr(args, "trains", False)
    if getattr(args, "device", None) not in (None, "cpu"):
        environment.require_device(args.device, joins=trains)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(args.run(args) or 0)
        except RuntimeError as error:
            asked = getattr(args, "device", None) is not None
            if asked or not trains or _NO_BACKEND not in str(error):
                raise
            # A TPU is held for a while yet by a process that was just killed: no bad input.
            output.message("error", f"no device to train on: {str(error).splitlines()[0]}")
            return FAULT


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Stands in for `warnings.showwarning`: one line without the place in the code."""
    output.message("warning", str(message))


def _is_device_error(error: RuntimeError) -> bool:
    """Whether JAX could not start the kind of device that was asked for."""
    text = str(error)
    return _NO_BACKEND in text or "Unknown backend" in text


def _is_one_of_many() -> bool:
    """Whether other processes train with this one."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _end_at_once(code: int) -> NoReturn:
    # JAX's own exit waits five minutes for the other processes, and they may wait for this one.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _silence_stdout() -> None:
    # No real descriptor stands behind it in some embeddings, and then there is nothing to do.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
