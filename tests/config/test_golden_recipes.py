"""Every value of every recipe, as it was when the recipe was last changed on purpose.

A default that moves changes what a recipe trains, and nothing else would tell.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rcodec_jax.config import load_config, to_json
from rcodec_jax.config.train import Config

GOLDEN = Path(__file__).parent / "golden"
RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
RENEW = "RCODEC_RENEW_GOLDEN=1 python -m pytest tests/config/test_golden_recipes.py"


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    flat = {} if pairs else {where: value}
    for key, inner in pairs:
        flat |= _flat(inner, f"{where}.{key}" if where else str(key))
    return flat


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_what_it_was(path: Path) -> None:
    dump = to_json(load_config(path, Config))
    golden = GOLDEN / f"{path.stem}.json"
    if os.environ.get("RCODEC_RENEW_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(dump, encoding="utf-8")
    assert golden.is_file(), f"no golden dump of {path.name}; to write it: {RENEW}"
    old, new = (_flat(json.loads(text)) for text in (golden.read_text("utf-8"), dump))
    changed = [
        f"{name}: {old.get(name, 'nothing')!r} -> {new.get(name, 'nothing')!r}"
        for name in [*old, *(name for name in new if name not in old)]
        if name not in old or name not in new or old[name] != new[name]
    ]
    assert not changed, (
        f"configs/{path.name} is no longer what tests/config/golden/{golden.name} says:\n  "
        + "\n  ".join(changed)
        + f"\nIf that is meant, say so in CHANGELOG.md and renew the dumps: {RENEW}"
    )


def test_no_dump_without_a_recipe() -> None:
    dumps = {path.stem for path in GOLDEN.glob("*.json")}
    assert dumps == {path.stem for path in RECIPES}
