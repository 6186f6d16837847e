"""Overrides of single configuration values: `train.steps=200`, `stages.0.lr=1e-3`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

from rcodec_jax.config import fields
from rcodec_jax.errors import UsageError

T = TypeVar("T")


@dataclasses.dataclass
class _Edit:
    """What the overrides ask of one place: a text for the place itself, then edits below it."""

    text: str | None = None
    below: dict[str, _Edit] = dataclasses.field(default_factory=dict)


def apply_overrides(config: T, overrides: Iterable[str]) -> T:
    """Returns a configuration with some of its values replaced.

    Each override is `path=value`: the path names fields, joined by dots, and elements of tuples by
    number; the text of the value is read by the type of the field (`none` in optional fields;
    `1,2` or `(1, 2)` in tuples). A key below an optional group that is None makes the group from
    its defaults first. Later overrides win. All are applied at once, so that a dataclass checks
    itself (`__post_init__`) in its final state only.

    Args:
      config: an instance of a dataclass; it is not changed.
      overrides: texts `path=value`.

    Raises:
      UsageError: a text without `=`, an unknown key (the message names near ones), a value that
        the field does not take, or values that the dataclass itself refuses.
    """
    root = _Edit()
    for override in overrides:
        path, equals, text = override.partition("=")
        path = path.strip()
        if not equals or not path:
            raise UsageError(f"expected an override like train.steps=200, got {override!r}")
        edit = root
        for key in path.split("."):
            edit = edit.below.setdefault(key, _Edit())
        edit.text = text
        edit.below.clear()  # a value for the whole outdates earlier values for its parts
    if not root.below:
        return config
    return _edited(type(config), config, root, "")


def _edited(kind: Any, value: Any, edit: _Edit, where: str) -> Any:
    if edit.text is not None:
        value = fields.parse_text(kind, edit.text, where)
    if not edit.below:
        return value
    if value is None:
        value = _default_group(kind, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _edited_group(value, edit, where)
    if isinstance(value, tuple):
        return _edited_tuple(kind, value, edit, where)
    raise UsageError(f"{where} is a single value and has no key {next(iter(edit.below))!r}")


def _edited_group(group: Any, edit: _Edit, where: str) -> Any:
    kinds = fields.field_types(type(group))
    changes = {}
    for key, below in edit.below.items():
        if key not in kinds:
            raise fields.unknown_key(where, key, kinds)
        inner = f"{where}.{key}" if where else key
        changes[key] = _edited(kinds[key], getattr(group, key), below, inner)
    try:
        return dataclasses.replace(group, **changes)
    except ValueError as error:
        raise UsageError(f"{where}.{error}" if where else str(error)) from error


def _edited_tuple(kind: Any, items: tuple[Any, ...], edit: _Edit, where: str) -> tuple[Any, ...]:
    kind = next(member for member in fields.union_members(kind) if fields.is_tuple(member))
    inner = fields.element_types(kind, len(items), where)
    edited = list(items)
    for key, below in edit.below.items():
        if not (key.isascii() and key.isdigit()) or int(key) >= len(items):
            expected = f"0..{len(items) - 1}" if items else "none, it is empty"
            raise UsageError(f"{where}: expected an element number ({expected}), got {key!r}")
        index = int(key)
        edited[index] = _edited(inner[index], items[index], below, f"{where}.{index}")
    return tuple(edited)


def _default_group(kind: Any, where: str) -> Any:
    """An instance, from defaults alone, of the dataclass that an empty optional field may hold."""
    groups = [member for member in fields.union_members(kind) if fields.is_config_class(member)]
    if len(groups) == 1:
        try:
            return groups[0]()
        except TypeError:
            pass  # a field without a default
    raise UsageError(f"{where} is none, so no key below it can be set")
