"""The argument parser of the command and its subcommands. Standard library only."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rcodec_jax.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageErrors, so that they too take one line.

    Options may stand anywhere among paths, and coordinates may begin with a minus. An option or
    a choice that it does not know is refused with the nearest ones, by the very subcommand.
    """

    _is_within = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = _with_values(sys.argv[1:] if args is None else list(args))
        if self._is_within:
            return super().parse_known_args(words, namespace)
        takes_many = any(not a.option_strings and a.nargs in ("*", "+") for a in self._actions)
        # argparse gives the first run of paths to all positional arguments at once; this way it
        # takes the options first. It comes back here for either step.
        self._is_within = True
        try:
            parse = self.parse_known_intermixed_args if takes_many else super().parse_known_args
            found, extras = parse(words, namespace)
        finally:
            self._is_within = False
        if extras:
            # argparse would leave this to the parser of all commands, which knows no option.
            self.error(self._unknown(extras))
        return found, extras

    def _unknown(self, extras: Sequence[str]) -> str:
        options = [word.partition("=")[0] for word in extras if re.match("-+[a-z]", word, re.I)]
        known = [name for action in self._actions for name in action.option_strings]
        found = [f"unknown option {option}{did_you_mean(option, known)}" for option in options]
        return "; ".join(found) or f"expected no further argument, got {extras[0]!r}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        near = did_you_mean(str(value), choices)
        if isinstance(action, argparse._SubParsersAction):
            near = near or f", expected one of {', '.join(choices)}"
            self.error(f"unknown {str(action.metavar).lower()} {value!r}{near}")
        expected = " or ".join((", ".join(choices[:-1]), choices[-1]) if choices[1:] else choices)
        raise argparse.ArgumentError(action, f"expected {expected}, got {value!r}{near}")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question with what is nearest to a word that is not known, "" where nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    if not near and re.fullmatch("-[A-Za-z]", word):
        near = [name for name in names if name.startswith(f"-{word}")]
    return f", did you mean {' or '.join(near)}?" if near else ""


def _with_values(words: list[str]) -> list[str]:
    """Joins an option and coordinates that begin with a minus, which look like an option."""
    out: list[str] = []
    for word in words:
        if re.fullmatch(r"-[\d.][^,]*,.*", word) and out and re.fullmatch("--[a-z-]+", out[-1]):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out
