"""What a run's folder says of the run it holds."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from rcodec_jax.checkpoint import whole_steps
from rcodec_jax.config import (
    Change,
    changed_fields,
    check_fields,
    from_json,
    refused_changes,
    to_json,
)
from rcodec_jax.config.train import Config
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.files import atomic_write
from rcodec_jax.model.trained import RUN_CHECKPOINTS, RUN_CONFIG
from rcodec_jax.train.loop.manifest import read_starts

DATA = "data"
"""Stands among the fields that may change for what the run reads from."""

MAX_NAMED = 8
"""Fields that a refusal names before it only counts."""

_URL = re.compile(r"\w+://")


@contextlib.contextmanager
def open_workdir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes the folder of a run, if it is missing; takes it away again if nothing came of it.

    What is refused leaves no empty folder, which would look like a run.

    Raises:
      UsageError: a URL, which would become a folder of that name on each host.
    """
    if _URL.match(os.fspath(path)):
        raise UsageError(f"{path}: expected a folder, got a URL (mount it, and give the path)")
    folder = Path(path)
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        for one in (folder / RUN_CHECKPOINTS, *missing) if missing else ():
            with contextlib.suppress(OSError):  # it holds something, or is not there
                one.rmdir()
        raise


def find_changes(config: Config, workdir: Path, allowed: Sequence[str] = ()) -> list[Change]:
    """What differs from the run in the folder; stops where more does than may.

    A folder without a checkpoint holds nothing to go on with, so that there anything may change.

    Args:
      config: the run.
      workdir: its folder.
      allowed: fields, or groups of them, that may differ besides the harmless ones
        (`config.resuming.HARMLESS`), or `DATA` for what the run reads from.

    Raises:
      UsageError: more differs than may, or `allowed` names no field.
    """
    path = workdir / RUN_CONFIG
    before = config
    if path.exists() and whole_steps(workdir / RUN_CHECKPOINTS):
        try:
            before = from_json(Config, path.read_text(encoding="utf-8"))
        except (RcodecError, ValueError) as error:
            raise UsageError(f"{path}: not the configuration of a run: {error}") from error
    found = changed_fields(before, config)
    _refuse_other_model(before, config, found, workdir, allowed)
    check_fields([field for field in allowed if field != DATA], before, config)
    _refuse(refused_changes(found, allowed), workdir)
    return found


def find_data_change(digest: str, workdir: Path, allowed: Sequence[str] = ()) -> list[Change]:
    """The same for the data: its digest against that of the run's last start.

    Raises:
      UsageError: they differ, and `allowed` does not say `DATA`.
    """
    starts = read_starts(workdir) if whole_steps(workdir / RUN_CHECKPOINTS) else []
    before = starts[-1]["data"]["digest"] if starts else digest
    found = [] if before == digest else [Change(DATA, before[:16], digest[:16])]
    _refuse([] if DATA in allowed else found, workdir)
    return found


def write_config(config: Config, workdir: Path) -> None:
    """Writes the configuration beside the run; from the first process only."""
    if jax.process_index() == 0:
        atomic_write(workdir / RUN_CONFIG, to_json(config).encode())


def _refuse_other_model(
    before: Config, config: Config, found: Sequence[Change], workdir: Path, allowed: Sequence[str]
) -> None:
    """Names the models where a recipe is another one's, and not each field that differs."""
    refused = refused_changes(found, allowed)
    of_model = [change for change in refused if change.path.startswith("model.")]
    if before.name != config.name and of_model:
        raise UsageError(
            f"{workdir} holds a run of {before.name!r}, expected one of the recipe's model, "
            f"{config.name!r}: {len(of_model)} fields of the model differ, the first "
            f"{of_model[0]}. Use an empty --workdir, or the recipe of {before.name!r}"
        )


def _refuse(refused: Sequence[Change], workdir: Path) -> None:
    if refused:
        listed = "; ".join(map(str, refused[:MAX_NAMED]))
        if len(refused) > MAX_NAMED:
            listed += f"; and {len(refused) - MAX_NAMED} more"
        raise UsageError(
            f"{workdir} holds a run with other settings: {listed}. Use an empty --workdir, or say "
            f"what may change, as in --allow-change {refused[0].path}"
        )
