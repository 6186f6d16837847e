"""Formats that Pillow reads with a package more: used where it is installed, never required."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

from PIL import Image


def _heif() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)


def _jxl() -> None:
    import pillow_jxl  # noqa: F401  registers itself


_PLUGINS: dict[str, tuple[str, str, str, Callable[[], None]]] = {
    "HEIC": ("HEIF", "pillow_heif", "pillow-heif", _heif),
    "JPEG XL": ("JXL", "pillow_jxl", "pillow-jxl-plugin", _jxl),
}
"""By kind of file: Pillow's name of the format, the module, its package, what registers it."""

_registered: list[str] = []


def package(kind: str) -> str | None:
    """The package that reads a kind of file, None where none is known."""
    return _PLUGINS[kind][2] if kind in _PLUGINS else None


@functools.cache
def is_read(kind: str) -> bool:
    """Whether a kind of file can be read; what reads it is registered with Pillow by this."""
    if kind not in _PLUGINS:
        return False
    format, module, _, register = _PLUGINS[kind]
    if importlib.util.find_spec(module) is None:
        return False
    try:
        register()
    except (ImportError, OSError):  # it is there and does not work, for want of a library, say
        return False
    Image.init()
    if format not in Image.OPEN:
        return False
    _registered.append(format)
    return True


def registered() -> tuple[str, ...]:
    """Pillow's names of the formats that `is_read` has registered so far."""
    return tuple(_registered)
