"""Versions of installed packages, for what has to say what it was made with."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

import rcodec_jax


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """This package's version and those of others by name, those that are installed."""
    versions = {"rcodec-jax": rcodec_jax.__version__}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
