"""Which changes of a configuration a resumed run may have."""

from __future__ import annotations

import pytest

from rcodec_jax.config import (
    apply_overrides,
    changed_fields,
    check_fields,
    flatten,
    refused_changes,
)
from rcodec_jax.config.resuming import HARMLESS
from rcodec_jax.config.train import Config, DataConfig, SourceConfig, StageConfig, TrainConfig
from rcodec_jax.errors import UsageError

BEFORE = Config(train=TrainConfig(stages=(StageConfig(steps=10), StageConfig(steps=20))))


def _refused(*overrides: str, allowed: tuple[str, ...] = ()) -> list[str]:
    changes = changed_fields(BEFORE, apply_overrides(BEFORE, overrides))
    return [str(change) for change in refused_changes(changes, allowed)]


def test_nothing_differs_from_itself() -> None:
    assert changed_fields(BEFORE, BEFORE) == []


def test_what_steers_the_result_is_refused_with_old_and_new() -> None:
    assert _refused("train.seed=3", "train.stages.1.batch_size=16", "model.latent_channels=4") == [
        "model.latent_channels 32 -> 4",
        "train.stages.1.batch_size 8 -> 16",
        "train.seed 0 -> 3",
    ]


def test_what_does_not_is_harmless() -> None:
    assert not _refused(
        "train.log_every=1", "train.save_every=7", "train.keep_best=3", "train.steps=5",
        "train.mesh.fsdp=4", "train.profile=3,2", "train.tensorboard=true",
    )  # fmt: skip


def test_fields_and_groups_can_be_allowed() -> None:
    changes = ("train.clip=2", "train.stages.0.steps=11", "train.stages.1.learning_rate=.1")
    assert len(_refused(*changes)) == 3
    assert _refused(*changes, allowed=("train.clip", "train.stages")) == []
    left = _refused(*changes, allowed=("train.stages.*.steps", "train.clip"))
    assert left == ["train.stages.1.learning_rate 0.001 -> 0.1"]
    # no prefix of a name is a group
    assert len(_refused(*changes, allowed=("train.cli", "train.stages.0.ste"))) == 3


def test_stages_that_come_or_go_are_named_field_by_field() -> None:
    longer = Config(train=TrainConfig(stages=(*BEFORE.train.stages, StageConfig(kind="codec"))))
    added = [str(change) for change in refused_changes(changed_fields(BEFORE, longer))]
    assert "train.stages.2.kind nothing -> 'codec'" in added
    gone = [str(change) for change in changed_fields(longer, BEFORE)]
    assert "train.stages.2.kind 'codec' -> nothing" in gone and len(gone) == len(added)


def _reading(path: str, weight: float = 1.0) -> Config:
    return Config(train=TrainConfig(data=DataConfig(sources=(SourceConfig(path, weight),))))


def test_data_may_lie_elsewhere() -> None:
    assert not refused_changes(changed_fields(_reading("a"), _reading("b")))
    assert len(refused_changes(changed_fields(_reading("a"), _reading("b", 2.0)))) == 1


def test_harmless_fields_exist() -> None:
    check_fields(HARMLESS, BEFORE, _reading("a"))


@pytest.mark.parametrize("name", ["train.lag_every", "train.log", "log_every", "", "train.steps.0"])
def test_a_name_that_is_no_field_is_an_error(name: str) -> None:
    assert name not in flatten(BEFORE)
    with pytest.raises(UsageError, match="expected the name of a field"):
        check_fields([name], BEFORE)
