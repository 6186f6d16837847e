"""Configurations as plain dictionaries and as JSON, there and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from rcodec_jax.config import fields
from rcodec_jax.errors import UsageError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries and lists of JSON values.

    Raises:
      TypeError: `config` is no dataclass instance, or holds something a configuration cannot hold.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a dataclass instance, got {config!r}")
    return {key: _plain(getattr(config, key), key) for key in fields.field_types(type(config))}


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """The inverse of `to_dict`. Keys that are missing take the defaults of the dataclass.

    Raises:
      UsageError: unknown keys, missing keys without a default, values of the wrong type, or
        values that the dataclass refuses.
    """
    return _build_group(cls, data, "")


def to_json(config: Any) -> str:
    """A configuration as JSON text: indented, in field order, ending in a newline."""
    return json.dumps(to_dict(config), indent=2, allow_nan=False) + "\n"


def from_json(cls: type[T], text: str) -> T:
    """The inverse of `to_json`: `from_json(type(c), to_json(c)) == c`.

    Raises:
      UsageError: no JSON object, or see `from_dict`.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"expected {cls.__name__} as JSON: {error}") from error
    return from_dict(cls, data)


def flatten(config: Any) -> dict[str, Any]:
    """All leaf values by dotted path (`stages.0.steps`), as `apply_overrides` names them."""
    flat: dict[str, Any] = {}

    def visit(value: Any, where: str) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            children = [(key, getattr(value, key)) for key in fields.field_types(type(value))]
        elif isinstance(value, tuple) and value:
            children = [(str(index), item) for index, item in enumerate(value)]
        else:
            flat[where] = value
            return
        for key, child in children:
            visit(child, f"{where}.{key}" if where else key)

    visit(config, "")
    return flat


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kinds = fields.field_types(type(value))
        return {key: _plain(getattr(value, key), f"{where}.{key}") for key in kinds}
    if isinstance(value, tuple):
        return [_plain(item, f"{where}.{index}") for index, item in enumerate(value)]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where}: a configuration cannot hold a {type(value).__name__}")


def _build(kind: Any, value: Any, where: str) -> Any:
    if value is None and fields.allows_none(kind):
        return None
    members = fields.union_members(kind)
    if len(members) > 1:
        return _build_union(kind, members, value, where)
    kind = members[0]
    if fields.is_config_class(kind):
        return _build_group(kind, value, where)
    if fields.is_tuple(kind):
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where}: expected {fields.type_name(kind)}, got {value!r}")
        inner = fields.element_types(kind, len(value), where)
        return tuple(
            _build(item_kind, item, f"{where}.{index}")
            for index, (item_kind, item) in enumerate(zip(inner, value, strict=True))
        )
    return fields.check_value(kind, value, where)


def _build_union(kind: Any, members: tuple[Any, ...], value: Any, where: str) -> Any:
    # An exact type wins: 3 in `float | int` is the int.
    for member in sorted(members, key=lambda member: member is not type(value)):
        try:
            return _build(member, value, where)
        except UsageError:
            continue
    raise UsageError(f"{where}: expected {fields.type_name(kind)}, got {value!r}")


def _build_group(cls: type[T], data: Any, where: str) -> T:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where or 'configuration'}: expected {cls.__name__}, got {data!r}")
    kinds = fields.field_types(cls)
    for key in data:
        if key not in kinds:
            raise fields.unknown_key(where, key, kinds)
    values = {
        key: _build(kinds[key], value, f"{where}.{key}" if where else key)
        for key, value in data.items()
    }
    try:
        return cls(**values)
    except TypeError as error:  # a missing key without a default
        raise UsageError(f"{where or cls.__name__}: {error}") from error
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}.{error}" if where else str(error)) from error
