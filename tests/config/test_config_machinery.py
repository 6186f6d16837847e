"""Promises of the configuration machinery: overrides by type, near names, JSON round trip."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tomllib
from pathlib import Path
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.config import (
    apply_overrides,
    files,
    flatten,
    from_dict,
    from_json,
    load_config,
    to_json,
)
from rcodec_jax.config.train import Config
from rcodec_jax.errors import UsageError

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Loss:
    weight: float = 1.0
    kind: Literal["l1", "l2", 3] = "l1"


@dataclasses.dataclass(frozen=True)
class Stage:
    name: str
    steps: int = 10
    loss: Loss = Loss()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")


@dataclasses.dataclass(frozen=True)
class Range:
    lo: int = 0
    hi: int = 10

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"lo {self.lo} above hi {self.hi}")


@dataclasses.dataclass(frozen=True)
class Settings:
    seed: int = 0
    ema: bool = True
    label: str = ""
    limit: Optional[int] = None  # noqa: UP045 - both spellings must work
    extra: Loss | None = None
    widths: tuple[int, ...] = (48, 112)
    betas: tuple[float, float] = (0.9, 0.99)
    blocks: tuple[tuple[int, ...], ...] = ()
    stages: tuple[Stage, ...] = (Stage("a"), Stage("b", 20))
    window: Range = Range()
    mixed: int | float | str = 0
    names: tuple[str, ...] | None = None


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("seed=7", "seed", 7),
        ("seed=1e5", "seed", 100_000),
        ("seed=0x10", "seed", 16),
        ("seed=-1_000", "seed", -1000),
        ("ema=off", "ema", False),
        ("ema=True", "ema", True),
        ("label=a=b", "label", "a=b"),
        ("label=none", "label", "none"),
        ("limit=5", "limit", 5),
        ("limit=None", "limit", None),
        ("extra.weight=2", "extra.weight", 2.0),
        ("extra.kind=3", "extra.kind", 3),
        ("widths=1,2,3", "widths.2", 3),
        ("widths=()", "widths", ()),
        ("widths.0=64", "widths.0", 64),
        ("betas=[.5, .9]", "betas.0", 0.5),
        ("blocks=(1,2),(3,)", "blocks.1.0", 3),
        ("blocks=((1,2),(3))", "blocks.0.1", 2),
        ("stages.1.steps=99", "stages.1.steps", 99),
        ("stages.0.loss.kind=L2", "stages.0.loss.kind", "l2"),
        ("mixed=2.5", "mixed", 2.5),
        ("mixed=two", "mixed", "two"),
        ("names=a, b", "names.1", "b"),
        ("names=none", "names", None),
    ],
)
def test_override_by_field_type(override: str, path: str, expected: object) -> None:
    flat = flatten(apply_overrides(Settings(), [override]))
    assert flat[path] == expected
    assert type(flat[path]) is type(expected)


def test_overrides_leave_everything_else_and_the_original_alone() -> None:
    before = Settings()
    after = apply_overrides(before, ["stages.1.loss.weight=0.5", "widths=9,9", "widths.1=8"])
    assert before == Settings()
    changed = {key for key, value in flatten(after).items() if flatten(before)[key] != value}
    assert changed == {"stages.1.loss.weight", "widths.0", "widths.1"}
    assert after.widths == (9, 8)


def test_later_overrides_win_and_a_whole_value_outdates_its_parts() -> None:
    config = apply_overrides(Settings(), ["widths.1=5", "widths=1,2", "seed=1", "seed=2"])
    assert config.widths == (1, 2)
    assert config.seed == 2


def test_a_group_is_checked_in_its_final_state_only() -> None:
    assert apply_overrides(Settings(), ["window.lo=20", "window.hi=30"]).window == Range(20, 30)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1", ["'sede'", "seed"]),
        ("stages.0.stesp=1", ["stages.0", "steps"]),
        ("stages.2.steps=1", ["stages", "0..1", "'2'"]),
        ("stages.x.steps=1", ["stages", "'x'"]),
        ("names.0=a", ["names", "none"]),
        ("seed", ["'seed'", "train.steps=200"]),
        ("=3", ["'=3'"]),
        ("seed=1.5", ["seed", "int", "'1.5'"]),
        ("seed=", ["seed", "int"]),
        ("ema=maybe", ["ema", "bool", "'maybe'"]),
        ("betas=1,2,3", ["betas", "2 elements", "got 3"]),
        ("betas=nan,1", ["betas.0", "float", "'nan'"]),
        ("stages=a", ["stages.0", "group", "steps"]),
        ("stages.0.loss.kind=l3", ["one of 'l1', 'l2', 3", "'l3'"]),
        ("seed.x=1", ["seed", "single value", "'x'"]),
        ("stages.0.steps=-1", ["stages.0", "must not be negative"]),
    ],
)
def test_bad_overrides_say_what_was_expected_and_given(override: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        apply_overrides(Settings(), [override])
    for word in words:
        assert word in str(caught.value)


_losses = st.builds(
    Loss,
    weight=st.floats(allow_nan=False),
    kind=st.sampled_from(["l1", "l2", 3]),
)
_settings = st.builds(
    Settings,
    seed=st.integers(),
    ema=st.booleans(),
    label=st.text(),
    limit=st.none() | st.integers(),
    extra=st.none() | _losses,
    widths=st.lists(st.integers(), max_size=3).map(tuple),
    betas=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    blocks=st.lists(st.lists(st.integers(), max_size=2).map(tuple), max_size=2).map(tuple),
    stages=st.lists(st.builds(Stage, st.text(), st.integers(min_value=0), _losses), max_size=2).map(
        tuple
    ),
    mixed=st.integers() | st.text(max_size=2) | st.floats(allow_nan=False, allow_infinity=False),
    names=st.none() | st.lists(st.text(), max_size=2).map(tuple),
)


@given(_settings)
def test_json_round_trip(config: Settings) -> None:
    again = from_json(Settings, to_json(config))
    assert again == config
    assert [type(value) for value in flatten(again).values()] == [
        type(value) for value in flatten(config).values()
    ]


def test_infinity_survives_json() -> None:
    config = Settings(betas=(math.inf, -math.inf))
    assert "Infinity" not in to_json(config)
    assert from_json(Settings, to_json(config)) == config


def test_missing_keys_take_defaults_so_that_old_files_stay_readable() -> None:
    assert from_dict(Settings, {"seed": 3}) == Settings(seed=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ["Settings", "[]"]),
        ("{", ["JSON"]),
        ('{"sed": 1}', ["'sed'", "seed"]),
        ('{"seed": true}', ["seed", "int", "True"]),
        ('{"seed": 1.0}', ["seed", "int"]),
        ('{"label": 1}', ["label", "str"]),
        ('{"widths": 3}', ["widths", "tuple"]),
        ('{"stages": [{}]}', ["stages.0", "name"]),
        ('{"stages": [{"name": "a", "steps": -1}]}', ["stages.0", "negative"]),
        ('{"limit": "many"}', ["limit", "int", "'many'"]),
        ('{"betas": [1]}', ["betas", "2 elements"]),
    ],
)
def test_bad_json_says_what_was_expected_and_given(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        from_json(Settings, text)
    for word in words:
        assert word in str(caught.value)


_RECIPE = """
from __future__ import annotations
import dataclasses

@dataclasses.dataclass(frozen=True)
class Recipe:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)

def config() -> Recipe:
    return Recipe(sizes=(3,))
"""


def test_load_config_runs_a_recipe(tmp_path) -> None:
    path = tmp_path / "recipe.py"
    path.write_text(_RECIPE)
    config = load_config(path)
    assert config.sizes == (3,)
    assert apply_overrides(config, ["rate=.25"]).rate == 0.25
    saved = tmp_path / "config.json"
    saved.write_text(to_json(config))
    assert load_config(saved, type(config)) == config


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.py", "x = 1", ["config()"]),
        ("b.py", "def config(): return 3", ["dataclass", "int"]),
        ("c.py", "1/0", ["c.py", "ZeroDivisionError"]),
        ("d.py", "def config(): return {}['x']", ["KeyError"]),
        ("e.toml", "", [".py"]),
        ("f.json", "{}", ["class"]),
    ],
)
def test_load_config_refuses(tmp_path, name: str, text: str, words: list[str]) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    for word in words:
        assert word in str(caught.value)


def test_load_config_of_a_missing_file_or_another_class(tmp_path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_config(tmp_path / "missing.py")
    path = tmp_path / "recipe.py"
    path.write_text(_RECIPE)
    with pytest.raises(UsageError, match="must return a Settings, got Recipe"):
        load_config(path, Settings)


def test_recipes_are_found_by_name_in_a_checkout_and_once_installed(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nano", "tiny", "tiny_mse"):
        assert load_config(name, Config).name == name
    with pytest.raises(UsageError, match="or one of nano, .*tiny64.*, got 'small', which does not"):
        load_config("small")
    # In a wheel the recipes lie inside the package.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["force-include"] == {"configs": "rcodec_jax/configs"}
    installed = tmp_path / "rcodec_jax"
    (installed / "config").mkdir(parents=True)
    shutil.copytree(ROOT / "configs", installed / "configs")
    monkeypatch.setattr(files, "__file__", str(installed / "config" / "files.py"))
    found = files.shipped_recipes()
    assert found["tiny"] == installed / "configs" / "tiny.py"
    assert set(found) == {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert load_config("tiny", Config) == load_config(ROOT / "configs" / "tiny.py", Config)
    # A file of that name comes first, as ever.
    (tmp_path / "tiny").write_text("")
    with pytest.raises(UsageError, match=r"expected a \.py or \.json configuration, got 'tiny'"):
        load_config("tiny")
