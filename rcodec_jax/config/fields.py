"""What a configuration field may hold, and how a value or a text becomes one.

Supported: bool, int, float, str, Literal, Optional and other unions of these, `tuple[T, ...]`,
`tuple[A, B]` and dataclasses, nested in any way except unions of several dataclasses (nothing in
a text would say which one is meant).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeGuard

from rcodec_jax.errors import UsageError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NONE = frozenset({"none", "null"})
_BRACKETS = {"(": ")", "[": "]"}


def field_types(cls: type) -> Mapping[str, Any]:
    """The resolved type of every field that the constructor of dataclass `cls` takes, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def is_config_class(kind: Any) -> TypeGuard[type]:
    """Whether a field type is a dataclass."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def is_tuple(kind: Any) -> bool:
    """Whether a field type is a tuple with declared elements."""
    return typing.get_origin(kind) is tuple


def union_members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union without None; the type alone when it is not a union."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(member for member in typing.get_args(kind) if member is not type(None))
    return (kind,)


def allows_none(kind: Any) -> bool:
    """Whether None is a value of a field type."""
    return kind is type(None) or type(None) in typing.get_args(kind)


def element_types(kind: Any, count: int, where: str) -> tuple[Any, ...]:
    """The types of `count` elements of a tuple type.

    Raises:
      UsageError: the tuple type has another length.
    """
    args = typing.get_args(kind)
    if len(args) == 2 and args[1] is Ellipsis:
        return (args[0],) * count
    if args == ((),):
        args = ()
    if len(args) != count:
        raise UsageError(f"{where}: expected {len(args)} elements, got {count}")
    return args


def type_name(kind: Any) -> str:
    """How an error message names a field type."""
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(type_name(member) for member in typing.get_args(kind))
    if kind is type(None):
        return "none"
    if is_tuple(kind):
        args = typing.get_args(kind)
        inner = ", ".join("..." if arg is Ellipsis else type_name(arg) for arg in args)
        return f"tuple of ({inner})"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def unknown_key(where: str, key: str, known: Iterable[str]) -> UsageError:
    """The error for a key that does not exist; it names the nearest ones that do."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(names)}"
    return UsageError(f"unknown key {key!r} in {where or 'the configuration'}; {hint}")


def parse_text(kind: Any, text: str, where: str) -> Any:
    """Converts a text, as given on a command line, to a value of a field type.

    Raises:
      UsageError: the text is no value of the type.
      TypeError: the type is not one that this module supports.
    """
    if allows_none(kind) and text.strip().lower() in _NONE:
        return None
    members = union_members(kind)
    if len(members) > 1:
        # Declared order decides, str last: every text is a str.
        for member in sorted(members, key=lambda member: member is str):
            try:
                return parse_text(member, text, where)
            except UsageError:
                continue
        raise _mismatch(where, kind, text)
    kind = members[0]
    if kind is str:
        return text
    if kind in (bool, int, float):
        return _parse_scalar(kind, text.strip(), where)
    if typing.get_origin(kind) is Literal:
        for choice in typing.get_args(kind):
            if str(choice).lower() == text.strip().lower():
                return choice
        raise _mismatch(where, kind, text)
    if is_tuple(kind):
        parts = _split_elements(text.strip())
        inner = element_types(kind, len(parts), where)
        return tuple(
            parse_text(item, part, f"{where}.{index}")
            for index, (item, part) in enumerate(zip(inner, parts, strict=True))
        )
    if is_config_class(kind):
        names = ", ".join(field_types(kind))
        raise UsageError(f"{where} is a group and takes no value; set one of its keys: {names}")
    raise TypeError(f"{where}: unsupported field type {type_name(kind)}")


def check_value(kind: Any, value: Any, where: str) -> Any:
    """Checks a leaf value against a field type and brings it to its canonical form.

    Ints become floats in float fields; the texts 'inf' and '-inf' too (JSON has no word for them).
    Tuples and dataclasses are the caller's.

    Raises:
      UsageError: the value is not of the type.
      TypeError: the type is not one that this module supports.
    """
    if typing.get_origin(kind) is Literal:
        for choice in typing.get_args(kind):
            if type(choice) is type(value) and choice == value:
                return choice
        raise _mismatch(where, kind, value)
    if kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if value in ("inf", "-inf"):
            return float(value)
        raise _mismatch(where, kind, value)
    if kind in (bool, int, str):
        if type(value) is not kind:
            raise _mismatch(where, kind, value)
        return value
    raise TypeError(f"{where}: unsupported field type {type_name(kind)}")


def _parse_scalar(kind: type, text: str, where: str) -> bool | int | float:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise _mismatch(where, kind, text)
    if kind is int:
        try:
            return int(text, 0)
        except ValueError:
            pass  # 1e5 is a common way to write a number of steps
    try:
        number = float(text)
    except ValueError:
        raise _mismatch(where, kind, text) from None
    if math.isnan(number) or (kind is int and not number.is_integer()):
        raise _mismatch(where, kind, text)
    return int(number) if kind is int else number


def _split_elements(text: str) -> list[str]:
    """Splits '1,2', '(1, 2)' or '[(1, 2), (3, 4)]' at the commas of its outermost level."""
    if text and _BRACKETS.get(text[0]) == text[-1] and _is_one_group(text):
        text = text[1:-1].strip()
    parts: list[str] = []
    depth, start = 0, 0
    for index, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _is_one_group(text: str) -> bool:
    """Whether the bracket that opens a text is closed by its last character only."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return index == len(text) - 1
    return False


def _mismatch(where: str, kind: Any, value: object) -> UsageError:
    return UsageError(f"{where or 'configuration'}: expected {type_name(kind)}, got {value!r}")
