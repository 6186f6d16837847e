"""Parameters as nested dictionaries, and flat by path."""

from __future__ import annotations

from typing import Any

Flat = dict[str, Any]
"""Parameters by path: `unet/conv_in/conv/kernel`."""


def flatten(tree: dict[str, Any], prefix: str = "") -> Flat:
    """Nested dictionaries -> one, keys joined by slashes."""
    flat: Flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}/") if isinstance(value, dict) else {name: value}
    return flat


def unflatten(flat: Flat) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return tree
