"""The recipe of the toy model."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config


@pytest.fixture(scope="session")
def nano() -> Config:
    """configs/nano.py"""
    return load_config(Path(__file__).parents[2] / "configs" / "nano.py", Config)
