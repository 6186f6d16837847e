"""The runs that a folder of ablations asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rcodec_jax.config import apply_overrides, load_config
from rcodec_jax.config.ablation import Ablation
from rcodec_jax.config.train import Config
from rcodec_jax.errors import UsageError

BASE = "base"


@dataclasses.dataclass(frozen=True)
class Task:
    """One variant with one seed.

    Attributes:
      name: of the variant.
      seed: of its training.
      config: the run that it is measured on.
      folder: name of that run's folder, shared by variants of coding alone.
      ablation: what it changes.
    """

    name: str
    seed: int
    config: Config
    folder: str
    ablation: Ablation


def read_variants(
    folder: str | Path, overrides: Sequence[str] = ()
) -> tuple[Config, dict[str, Ablation]]:
    """The base recipe of a folder, and its ablations by name, those with a claim first.

    Args:
      overrides: of the base, and so of all.

    Raises:
      UsageError: no base.py there, or a file that returns something else.
    """
    folder = Path(folder)
    path = folder / f"{BASE}.py"
    if not path.is_file():
        raise UsageError(f"{folder}: expected a folder of ablations with {BASE}.py, got none")
    base = apply_overrides(load_config(path, Config), overrides)
    found = {
        one.stem: load_config(one, Ablation) for one in sorted(folder.glob("*.py")) if one != path
    }
    return base, dict(sorted(found.items(), key=lambda item: not item[1].claim))


def tasks(base: Config, ablations: dict[str, Ablation]) -> list[Task]:
    """What has to be trained and measured, in order: first what has several seeds, by seed.

    Raises:
      UsageError: a change that the base does not take, with the name of the ablation.
    """
    seeds = max((one.seeds for one in ablations.values()), default=1)
    every = {BASE: Ablation(seeds=seeds), **ablations}
    found = []
    for seed in range(seeds):
        for name, ablation in every.items():
            if seed >= ablation.seeds:
                continue
            run = name if ablation.changes else BASE
            try:
                changes = [*ablation.changes, f"train.seed={base.train.seed + seed}"]
                config = apply_overrides(base, changes)
            except UsageError as error:
                raise UsageError(f"{name}.py: {error}") from error
            config = dataclasses.replace(config, name=run)
            found.append(Task(name, seed, config, f"{run}-{seed}", ablation))
    return sorted(found, key=lambda task: task.ablation.seeds == 1)
