"""What differs between two configurations, and which differences a resumed run may have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from rcodec_jax.config.serialization import flatten
from rcodec_jax.errors import UsageError

HARMLESS = (
    "name",
    "train.steps",
    "train.log_every",
    "train.save_every",
    "train.sample_every",
    "train.keep_latest",
    "train.keep_best",
    "train.profile",
    "train.tensorboard",
    "train.peak_flops",
    "train.data.cache_mb",
    "train.data.max_damaged",
    "train.data.sources.*.path",
    "train.validation",
    "train.mesh",
    "train.lpips_dir",
)
"""Fields, or groups of them, that a run may go on with after a change, without being told.

They do not steer what is computed: how often something is told, kept or measured, how many pictures
may be damaged, where the run pauses (`train.steps`; the schedules follow the stages), where files
lie (the data are compared by what they list, without pictures that are held out), and the mesh,
since a checkpoint goes onto any. A change of mesh moves results by rounding, as a change of
hardware does; the run's manifest records it.
"""

_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Change:
    """A field of a configuration that is not what it was.

    Attributes:
      path: dotted, as overrides name it.
      old, new: the values as texts; 'nothing' where the field is missing.
    """

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path} {self.old} -> {self.new}"


def changed_fields(before: Any, after: Any) -> list[Change]:
    """Every leaf that differs between two configurations, in field order."""
    old, new = flatten(before), flatten(after)
    paths = [*old, *(path for path in new if path not in old)]
    return [
        Change(path, _shown(old.get(path, _MISSING)), _shown(new.get(path, _MISSING)))
        for path in paths
        if old.get(path, _MISSING) != new.get(path, _MISSING)
    ]


def refused_changes(found: Iterable[Change], allowed: Iterable[str] = ()) -> list[Change]:
    """Of some changes those that are neither harmless nor allowed.

    Args:
      found: changes.
      allowed: paths of fields, or of groups, all of whose fields may change; `*` stands for
        anything.
    """
    free = (*HARMLESS, *allowed)
    return [change for change in found if not any(_names(pattern, change.path) for pattern in free)]


def check_fields(paths: Iterable[str], *configs: Any) -> None:
    """Makes sure that paths given by a user name fields or groups of some configuration.

    Raises:
      UsageError: one names nothing.
    """
    fields = {field for config in configs for field in flatten(config)}
    for path in paths:
        if not any(_names(path, field) for field in fields):
            raise UsageError(
                f"expected the name of a field such as train.clip or train.data, got {path!r}"
            )


def _names(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else repr(value)
