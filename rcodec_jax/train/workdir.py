"""What a run's folder says of the run it holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax

from rcodec_jax.config import from_json, to_json
from rcodec_jax.config.train import Config
from rcodec_jax.errors import RcodecError, UsageError

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"


def keep_config(config: Config, workdir: Path) -> None:
    """Writes the configuration beside the run.

    Raises:
      UsageError: the folder holds a run of another model or seed.
    """
    path = workdir / CONFIG
    if path.exists():
        try:
            before = from_json(Config, path.read_text(encoding="utf-8"))
        except (RcodecError, json.JSONDecodeError) as error:
            raise UsageError(f"{path}: not the configuration of a run: {error}") from error
        if before.model != config.model or before.train.seed != config.train.seed:
            raise UsageError(
                f"{workdir} holds a run of another model or seed; use an empty --workdir"
            )
    if jax.process_index() == 0:
        part = path.with_suffix(".part")
        part.write_text(to_json(config) + "\n", encoding="utf-8")
        os.replace(part, path)
