"""Trains what is missing, measures it, and keeps each figure as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rcodec_jax import files
from rcodec_jax.ablate import table
from rcodec_jax.ablate.measure import Found, measure
from rcodec_jax.ablate.table import Line
from rcodec_jax.ablate.variants import Task, read_variants, tasks
from rcodec_jax.config import to_dict
from rcodec_jax.config.train import ValidationConfig
from rcodec_jax.data import open_source
from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.journal import Journal
from rcodec_jax.evaluate.report import write_json
from rcodec_jax.train.input.heldout import crops
from rcodec_jax.train.loop.loop import train

ROWS = "rows.jsonl"


class Result(NamedTuple):
    """The table so far, and whether it is whole: False after SIGTERM."""

    lines: list[Line]
    finished: bool


def ablate(
    folder: str | Path,
    *,
    data: str,
    pictures: str,
    out: str | Path,
    count: int = 24,
    crop_px: int = 192,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> Result:
    """Runs a folder of ablations, or goes on with them.

    Args:
      folder: `base.py` and a file for each ablation.
      data: pictures to train on, as for `train`.
      pictures: others to measure on; the middle of each.
      out: gets runs/, rows.jsonl (a line for each variant and seed), table.md, table.json and
        table.png.
      count: most pictures.
      crop_px: side of their crops, a multiple of 32.
      overrides: of the base recipe.

    Raises:
      UsageError: unusable recipes or pictures, or an `out` of another base or other pictures.
    """
    out = Path(out)
    base, ablations = read_variants(folder, overrides)
    todo = tasks(base, ablations)
    source = open_source(pictures)
    if not isinstance(source, PictureSource):
        raise UsageError(f"{pictures}: expected pictures to measure on, got {source!r}")
    shown = crops([source], ValidationConfig(data=pictures, pictures=count, crop_px=crop_px))
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(shown.tobytes()).hexdigest()[:16]
    journal = Journal(out / ROWS, {"base": to_dict(base), "pictures": digest})
    found: dict[tuple[str, int], Found] = {}
    lines: list[Line] = []
    trained: set[str] = set()  # runs that are finished; variants of coding share the base's
    for number, task in enumerate(todo, 1):
        key = _key(task)
        if key not in journal:
            tell(f"{number} of {len(todo)}: {task.name}, seed {task.seed}")
            workdir = out / "runs" / task.folder
            if task.folder not in trained:
                if not train(task.config, data=data, workdir=workdir).finished:
                    return Result(lines, False)
                trained.add(task.folder)
            journal.add(key, measure(workdir, task.ablation, shown))
        found[task.name, task.seed] = journal.find(key, Found)
        lines = table.compare(found, ablations)
        files.atomic_write(out / "table.md", table.markdown(lines).encode())
    write_json(out / "table.json", {"lines": [line._asdict() for line in lines]})
    if lines:
        table.draw(out / "table.png", lines)
    return Result(lines, True)


def _key(task: Task) -> tuple[str, ...]:
    """What a measurement depends on besides the base and the pictures."""
    coding = (task.ablation.dither, task.ablation.see_map)
    made = json.dumps([to_dict(task.config), coding], sort_keys=True)
    return task.name, str(task.seed), hashlib.sha256(made.encode()).hexdigest()[:16]
