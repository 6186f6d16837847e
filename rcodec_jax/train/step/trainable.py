"""Which parameters a stage moves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rcodec_jax.config.train import StageConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.networks import PARTS
from rcodec_jax.model.trees import flatten, unflatten

TRAINED = {
    "autoencoder": ("encoder", "decoder"),
    "codec": PARTS[2:],
    "joint": PARTS,
}
"""Parts whose parameters a kind of stage moves."""


def moving_paths(stage: StageConfig, paths: Iterable[str]) -> frozenset[str]:
    """Paths of the parameters that a stage moves, of all those of a model.

    Raises:
      UsageError: an entry of `stage.freeze` is no regular expression or fits no parameter, or
        nothing is left to train.
    """
    paths = list(paths)
    for pattern in stage.freeze:
        try:
            fitting = {path for path in paths if re.search(pattern, path)}
        except re.error as error:
            raise UsageError(f"freeze {pattern!r} is not a regular expression: {error}") from error
        if not fitting:
            raise UsageError(
                f"freeze {pattern!r}: expected a parameter's path that fits, such as "
                f"{next(iter(paths), 'unet/conv_in/conv/kernel')!r}, got none"
            )
    moving = frozenset(path for path in paths if moves(stage, path))
    if not moving:
        raise UsageError(
            f"a stage of kind {stage.kind!r} that freezes {', '.join(stage.freeze)} trains nothing"
        )
    return moving


def moves(stage: StageConfig, path: str) -> bool:
    """Whether a stage moves a parameter."""
    trained = path.partition("/")[0] in TRAINED[stage.kind]
    return trained and not any(re.search(pattern, path) for pattern in stage.freeze)


def ever_moving(stages: Iterable[StageConfig], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that any of the stages moves: only these need an optimiser's state."""
    flat = flatten(params)
    moving = frozenset().union(*(moving_paths(stage, flat) for stage in stages))
    return unflatten({path: leaf for path, leaf in flat.items() if path in moving})
