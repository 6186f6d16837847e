"""Ablations: from nothing to the table, and what the table says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.ablate import table
from rcodec_jax.ablate.measure import Found, settings
from rcodec_jax.ablate.run import ROWS, ablate
from rcodec_jax.ablate.variants import BASE, read_variants, tasks
from rcodec_jax.config import flatten, to_json
from rcodec_jax.config.ablation import Ablation
from rcodec_jax.errors import UsageError

SHIPPED = Path(__file__).parents[2] / "configs" / "ablations"

VARIANT = """
from rcodec_jax.config.ablation import Ablation

def config():
    return Ablation({})
"""


@pytest.fixture
def folder(tmp_path, tools) -> Path:
    """A base below nano, one variant of training and one of coding."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    text = to_json(tools.config("joint"))
    (folder / "base.py").write_text(
        "from rcodec_jax.config import from_json\nfrom rcodec_jax.config.train import Config\n\n"
        f"def config():\n    return from_json(Config, {text!r})\n"
    )
    (folder / "maps.py").write_text(VARIANT.format("('train.data.maps=uniform',)"))
    (folder / "plain.py").write_text(VARIANT.format("claim='dither helps', dither=False"))
    return folder


@pytest.mark.slow
def test_from_nothing_to_the_table_and_on(folder, pictures, tmp_path) -> None:
    told: list[str] = []
    out = tmp_path / "out"

    def run():
        paths = {"data": str(pictures), "pictures": str(pictures), "out": out}
        return ablate(folder, **paths, count=3, crop_px=64, tell=told.append)

    first = run()
    assert first.finished and [line.name for line in first.lines] == ["plain", "maps"]
    assert told == [
        f"{n} of 3: {name}, seed 0" for n, name in enumerate((BASE, "plain", "maps"), 1)
    ]
    rows = [json.loads(text) for text in (out / ROWS).read_text().splitlines()[1:]]
    bpp = np.array([row["found"]["bpp"] for row in rows])
    assert bpp.shape == (3, 10, 3) and (bpp > 0).all()
    assert (bpp[:, 0] > bpp[:, 4]).all()  # the finest timestep costs most
    lines = (out / "table.md").read_text().splitlines()
    assert lines[2].startswith("| plain | dither helps |") and len(lines) == 4

    # What is there is neither trained nor measured again.
    assert run() == first and len(told) == 3


def test_shipped_ablations_change_what_they_say() -> None:
    base, ablations = read_variants(SHIPPED)
    before = flatten(base)
    assert len(ablations) >= 12
    for task in tasks(base, ablations):
        after = flatten(dataclasses.replace(task.config, name=base.name))
        paths = {path for path in [*before, *after] if not path.startswith("train.seed")}
        changed = {path.split(".maps.")[0] for path in paths if before.get(path) != after.get(path)}
        assert len(changed) == len(task.ablation.changes)
        of_coding = not (task.ablation.dither and task.ablation.see_map)
        assert changed or of_coding or task.name == BASE


def test_unusable_folders(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"expected a folder of ablations with base.py, got none"):
        read_variants(tmp_path)


def test_regions_are_finer_than_what_is_around_them() -> None:
    found = settings((100, 900), 2, 64)
    assert [setting for setting, _, _ in found][4:6] == ["uniform 4", "region 0"]
    for setting, maps, regions in found:
        for levels, region in zip(maps, regions, strict=True):
            inside = region[::8, ::8]
            apart = levels.node_map[~inside].min() - levels.node_map[inside].max()
            assert apart == (400 if setting.startswith("region") else 0)


def made(rate: float, seed: int = 0) -> Found:
    """Curves of six pictures at a rate relative to the base's."""
    rng = np.random.default_rng(seed)
    names = [f"{kind} {n}" for kind in ("uniform", "region") for n in range(5)]
    quality = np.array([36, 33, 30, 27, 24] * 2)[:, None] + rng.normal(size=6)
    return Found(names, (rate * 2 ** ((quality - 30) / 3)).tolist(), quality.tolist())


def test_rates_and_what_they_say() -> None:
    ablations = {
        "dear": Ablation(("x",), claim="it saves", seeds=2),
        "same": Ablation(("x",), claim="it saves", seeds=2),
        "cheap": Ablation(("x",), claim="it saves", where="low", seeds=2),
    }
    rates = {BASE: (1.0, 1.02), "dear": (1.1, 1.122), "same": (1.01, 1.0), "cheap": (0.8, 0.816)}
    found = {(name, seed): made(pair[seed]) for name, pair in rates.items() for seed in range(2)}
    dear, same, cheap, chance = table.compare(found, ablations)
    for column in table.COLUMNS:
        assert dear.figures[column].percent == pytest.approx(10, abs=0.1)
        assert dear.figures[column].of_seeds == pytest.approx((10, 10), abs=0.01)
        assert chance.figures[column].percent == pytest.approx(2, abs=0.01)
    assert dear.verdict == "shows" and cheap.verdict == "the opposite shows"
    assert same.verdict == "does not show at this scale"  # seeds differ in sign
    assert table.markdown([dear]).count("\n") == 3
