"""Every recipe in configs/ loads, survives JSON and takes overrides; none of it touches JAX."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rcodec_jax.config import apply_overrides, flatten, from_json, load_config, to_json
from rcodec_jax.config.train import Config

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_round_trips(path: Path) -> None:
    config = load_config(path, Config)
    assert from_json(Config, to_json(config)) == config
    assert load_config(path, Config) == config
    short = apply_overrides(config, ["train.steps=2", "train.stages.0.steps=1"])
    changed = {key for key, value in flatten(short).items() if flatten(config)[key] != value}
    assert changed <= {"train.steps", "train.stages.0.steps"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_opens_with_how_to_run_it(path: Path) -> None:
    opening = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"rcodec train configs/{path.name}" in opening


def test_configurations_are_built_without_jax() -> None:
    code = "import sys, rcodec_jax.config.train as t; t.Config(); sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
