"""Checks that configurations make of their own fields, so that none fails days into a run.

All raise a ValueError of one line that begins with the field's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rcodec_jax.levels import NODE_COUNT


def refuse_below(config: Any, least: int, *names: str) -> None:
    """Fields must be `least` or more; tuples must not be empty and hold such, None is passed over.

    Raises:
      ValueError: names the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        if value is not None and (not values or min(values) < least):
            kind = "numbers" if any(isinstance(one, float) for one in values) else "whole numbers"
            raise ValueError(f"{name}: expected {kind} of at least {least}, got {value}")


def refuse_zero_and_below(config: Any, *names: str) -> None:
    """Fields must be above 0; None is passed over.

    Raises:
      ValueError: names the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")


def refuse_outside_0_1(config: Any, *names: str) -> None:
    """Fields must be in 0..1; None is passed over.

    Raises:
      ValueError: names the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number in 0..1, got {value}")


def refuse_empty(config: Any, *names: str) -> None:
    """Tuples must hold something.

    Raises:
      ValueError: names the first that does not.
    """
    for name in names:
        if not getattr(config, name):
            raise ValueError(f"{name}: expected at least one, got none")


def refuse_uneven_groups(widths: Iterable[int], groups: int) -> None:
    """Every width must divide into `groups`.

    Raises:
      ValueError: names the first that does not.
    """
    for width in widths:
        if width % groups:
            raise ValueError(f"groups: expected a divisor of {width} channels, got {groups}")


def refuse_other_nodes(name: str, nodes: tuple[int, int] | None) -> None:
    """A range of nodes must ascend within those that there are; None is passed over.

    Raises:
      ValueError: it does not.
    """
    if nodes is not None and not 0 <= nodes[0] <= nodes[1] < NODE_COUNT:
        raise ValueError(
            f"{name}: expected two nodes within 0..{NODE_COUNT - 1} in ascending order, got "
            f"{nodes[0]} and {nodes[1]}"
        )
