"""Configurations from files: Python recipes and saved JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

from rcodec_jax.config import serialization as serial
from rcodec_jax.errors import UsageError

T = TypeVar("T")

_NAME = re.compile(r"\w+")


@overload
def load_config(path: str | os.PathLike[str], cls: None = None) -> Any: ...


@overload
def load_config(path: str | os.PathLike[str], cls: type[T]) -> T: ...


def load_config(path: str | os.PathLike[str], cls: type | None = None) -> Any:
    """Loads a configuration.

    Args:
      path: a Python file that defines `config()` without arguments (it is executed, so it must be
        trusted), a `.json` file as `to_json` writes it, which needs `cls`, or the name of a recipe
        that comes with the package, such as "tiny".
      cls: the dataclass that is expected; None accepts any from a Python file.

    Raises:
      UsageError: a missing file, one without `config()`, an error in it, or a result that is not
        of the expected class.
    """
    path = _find(Path(path))
    if path.suffix == ".json":
        if cls is None:
            raise UsageError(f"{path}: a JSON configuration needs the class to build")
        return serial.from_json(cls, path.read_text(encoding="utf-8"))
    if path.suffix != ".py":
        raise UsageError(f"expected a .py or .json configuration, got {str(path)!r}")
    module = _execute(path)
    make = getattr(module, "config", None)
    if not callable(make):
        raise UsageError(f"{path}: expected a function config() that returns the configuration")
    try:
        config = make()
    except Exception as error:
        raise _failed(path, error) from error
    expected = "a dataclass instance" if cls is None else f"a {cls.__name__}"
    fits = dataclasses.is_dataclass(config) if cls is None else isinstance(config, cls)
    if not fits or isinstance(config, type):
        raise UsageError(f"{path}: config() must return {expected}, got {type(config).__name__}")
    return config


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package by name: of an installed one, or of a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if found := {path.stem: path for path in sorted(folder.glob("*.py"))}:
            return found
    return {}


def _find(path: Path) -> Path:
    """A file as it is, or the recipe of that name."""
    if path.is_file():
        return path
    recipes = shipped_recipes()
    if _NAME.fullmatch(str(path)) and str(path) in recipes:
        return recipes[str(path)]
    names = f" or one of {', '.join(recipes)}" if recipes else ""
    raise UsageError(
        f"expected a configuration file{names}, got {str(path)!r}, which does not exist"
    )


def _execute(path: Path) -> ModuleType:
    # The name is registered, as dataclasses defined in the file find their annotations through it,
    # and unique by path, as two recipes may share a file name.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"rcodec_config_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # true for any .py path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


def _failed(path: Path, error: Exception) -> UsageError:
    if isinstance(error, UsageError):
        return UsageError(f"{path}: {error}")
    return UsageError(f"{path}: {type(error).__name__}: {error}")
