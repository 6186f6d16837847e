"""The harness beside this file, as a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fuzz() -> ModuleType:
    """The module tests/fuzz/fuzz_decoder.py."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        return importlib.import_module("fuzz_decoder")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="session")
def damages(fuzz: ModuleType) -> ModuleType:
    """The module tests/fuzz/damages.py."""
    return sys.modules["damages"]
