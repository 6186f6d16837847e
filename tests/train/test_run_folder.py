"""What a run's folder records of it, and what it refuses to go on with."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from rcodec_jax.checkpoint import whole_steps
from rcodec_jax.config import from_dict
from rcodec_jax.config.train import Config, MeshConfig
from rcodec_jax.data import ImageFolder, listing_digest
from rcodec_jax.data.loading.loader import Batches
from rcodec_jax.errors import StorageError, UsageError
from rcodec_jax.model.trained import load_trained
from rcodec_jax.train import run
from rcodec_jax.train.input.batches import HostBatches, open_sources
from rcodec_jax.train.loop.checks import check_stages
from rcodec_jax.train.loop.manifest import read_starts
from rcodec_jax.train.loop.workdir import find_changes, find_data_change
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.losses import Batch


def _with(config: Config, **train) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **train))


@pytest.fixture(scope="module")
def stopped(pictures, tools, tmp_path_factory) -> tuple[Config, Path]:
    """A run of one step out of four, and its folder."""
    config = tools.config("autoencoder", steps=4, keep_latest=9)
    workdir = tmp_path_factory.mktemp("stopped")
    assert run(_with(config, steps=1), data=pictures, workdir=workdir) == 1
    return config, workdir


@pytest.fixture
def copy(stopped, tmp_path: Path) -> tuple[Config, Path]:
    """The same in a folder of one's own."""
    shutil.copytree(stopped[1], tmp_path / "copy")
    return stopped[0], tmp_path / "copy"


def test_every_start_is_a_line_of_the_manifest(copy, pictures, monkeypatch, capsys) -> None:
    config, workdir = copy
    edited = "e" * 64
    monkeypatch.setattr("rcodec_jax.train.loop.manifest.code_digest", lambda: edited)
    monkeypatch.setattr("rcodec_jax.train.loop.manifest.git_commit", lambda: None)
    assert run(config, data=pictures, workdir=workdir) == 4
    assert "note: the run goes on with other code: " in (said := capsys.readouterr().err)
    assert f" -> {edited[:12]}\n" in said
    first, second = read_starts(workdir)
    assert (first["step"], second["step"]) == (0, 1)
    assert first["changes"] == [] and second["changes"] == ["train.steps 1 -> None"]
    assert from_dict(Config, second["config"]) == config
    for entry in (first, second):
        assert re.fullmatch("[0-9a-f]{64}", entry["code"])
        assert {"rcodec-jax", "jax", "jaxlib", "flax", "orbax-checkpoint"} <= set(entry["packages"])
        assert entry["seed"] == 0 and entry["data"]["pictures"] == 5
        assert entry["devices"]["count"] == 1 and entry["devices"]["processes"] == 1
        assert entry["started"].endswith("+00:00") and entry["command"]
    assert first["data"] == second["data"]
    # a checkpoint that is taken out of its folder still says where it comes from
    for step, start in ((1, first), (4, second)):
        kept = workdir / "checkpoints" / str(step) / "_CHECKPOINT_METADATA"
        assert json.loads(kept.read_text())["custom_metadata"] == start


def test_a_changed_configuration_is_refused_field_by_field(copy, pictures) -> None:
    config, workdir = copy
    kept = [(workdir / name).read_bytes() for name in ("config.json", "manifest.jsonl")]
    model = dataclasses.replace(config.model, latent_channels=5)
    changed = dataclasses.replace(_with(config, seed=1, clip=2.0, log_every=7), model=model)
    with pytest.raises(UsageError) as refusal:
        run(changed, data=pictures, workdir=workdir)
    said = str(refusal.value)
    assert "model.latent_channels 3 -> 5; train.seed 0 -> 1; train.clip 1.0 -> 2.0." in said
    assert "log_every" not in said and "--allow-change model.latent_channels" in said
    with pytest.raises(UsageError) as refusal:
        run(dataclasses.replace(changed, name="other"), data=pictures, workdir=workdir)
    assert str(refusal.value) == (
        f"{workdir} holds a run of 'pico', expected one of the recipe's model, 'other': 1 fields "
        "of the model differ, the first model.latent_channels 3 -> 5. Use an empty --workdir, or "
        "the recipe of 'pico'"
    )
    with pytest.raises(UsageError, match="holds a run with other settings: train.seed 0 -> 1"):
        changed = _with(config, seed=1, clip=2.0)
        run(changed, data=pictures, workdir=workdir, allow_changes=["train.clip"])
    with pytest.raises(UsageError, match="expected the name of a field"):
        run(config, data=pictures, workdir=workdir, allow_changes=["train.clop"])
    assert kept == [(workdir / name).read_bytes() for name in ("config.json", "manifest.jsonl")]


def test_a_change_that_is_allowed_is_recorded(copy, pictures) -> None:
    config, workdir = copy
    left_out = dataclasses.replace(config.train.data, exclude=("no_such_file",))
    changed = _with(config, data=left_out, log_every=2, steps=1)
    # it is refused or recorded before any step, and none is left
    assert run(changed, data=pictures, workdir=workdir, allow_changes=["train.data"]) == 1
    assert read_starts(workdir)[-1]["changes"] == [
        "train.log_every 1 -> 2",
        "train.data.exclude () -> nothing",
        "train.data.exclude.0 nothing -> 'no_such_file'",
    ]
    assert find_changes(changed, workdir) == []  # it is this run's setting now


def test_other_data_is_refused_wherever_it_lies(copy, pictures, tmp_path: Path) -> None:
    config, workdir = copy
    moved, fewer = tmp_path / "moved", tmp_path / "fewer"
    shutil.copytree(pictures, moved)
    shutil.copytree(pictures, fewer)
    (fewer / "4.png").unlink()
    with pytest.raises(UsageError, match="other settings: data [0-9a-f]{16} -> [0-9a-f]{16}"):
        run(_with(config, steps=1), data=fewer, workdir=workdir)
    digest = listing_digest([ImageFolder(moved)])
    assert find_data_change(digest, workdir) == []
    given = {"data": fewer, "workdir": workdir, "allow_changes": ["data"]}
    assert run(_with(config, steps=1), **given) == 1  # none is left
    assert read_starts(workdir)[-1]["changes"][-1].startswith("data ")


def test_without_a_checkpoint_anything_may_change(copy) -> None:
    config, workdir = copy
    shutil.rmtree(workdir / "checkpoints")
    changed = _with(config, seed=5, steps=1)
    assert find_changes(changed, workdir) == find_data_change("another", workdir) == []


def test_a_config_that_cannot_be_read_is_named(copy, pictures) -> None:
    config, workdir = copy
    (workdir / "config.json").write_text('{"name": 3}')
    with pytest.raises(UsageError, match=r"config\.json: not the configuration of a run"):
        run(config, data=pictures, workdir=workdir)


def test_lines_cut_off_by_a_crash_are_passed_over(copy, pictures, tools) -> None:
    config, workdir = copy
    for name in ("manifest.jsonl", "metrics.jsonl"):
        with (workdir / name).open("a") as file:
            file.write(json.dumps({"step": 1})[:5])
    assert len(read_starts(workdir)) == 1
    assert load_trained(workdir).card["training"]["step"] == 1
    assert run(_with(config, steps=1), data=pictures, workdir=workdir) == 1
    assert [row["step"] for row in tools.metrics(workdir)] == [1]
    assert [start["step"] for start in read_starts(workdir)] == [0, 1]


def test_what_a_later_stage_lacks_is_said_at_the_start(pictures, tools, tmp_path: Path) -> None:
    config = tools.config("autoencoder", "codec", "joint", mesh=MeshConfig(data=2))
    first, second, last = config.train.stages
    lpips = dataclasses.replace(last, loss=dataclasses.replace(last.loss, lpips=1.0))
    for stages, words in (
        ((first, dataclasses.replace(second, latents=True), last), "a source of cached latents"),
        ((first, dataclasses.replace(second, accumulate=4), last), "batch_size .* multiple of 8"),
        ((first, second, lpips), "needs weights: .*train.lpips_dir"),
    ):
        with pytest.raises(UsageError, match=words):
            run(_with(config, stages=stages), data=pictures, workdir=tmp_path)
        assert read_starts(tmp_path) == []
    # nothing is asked of a stage that this run does not come to
    alone = _with(config, stages=stages, steps=1, mesh=MeshConfig(data=1))
    check_stages(Setup.of(alone), open_sources(alone, pictures), 0)


def test_a_run_that_is_over_says_so_and_what_comes_next(copy, pictures, capsys) -> None:
    config, workdir = copy
    assert run(_with(config, steps=1), data=pictures, workdir=workdir) == 1
    closing = f"the run is finished already: 1 steps; next: rcodec freeze {workdir} --out BUNDLE"
    assert closing in capsys.readouterr().err


def test_a_fault_during_training_closes_the_loader(pictures, tools, tmp_path, monkeypatch) -> None:
    closed = []
    monkeypatch.setattr(Batches, "close", lambda batches: closed.append(batches.get_state()))
    config = tools.config("autoencoder", steps=4, sample_every=1)
    (tmp_path / "samples" / "0000001.png").mkdir(parents=True)
    with pytest.raises(UsageError, match="got a folder"):
        run(config, data=pictures, workdir=tmp_path)
    assert closed[-1] == {"next_index": 1}, "the one that was read from"
    # what the operating system says is no bad input, for launchers to start again after it
    shutil.rmtree(tmp_path / "samples")
    (tmp_path / "samples").write_text("")
    closed.clear()
    with pytest.raises(StorageError, match="samples: File exists"):
        run(config, data=pictures, workdir=tmp_path)
    assert closed[-1] == {"next_index": 1}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_saves_and_then_interrupts(pictures, tools, tmp_path: Path, monkeypatch) -> None:
    config = tools.config("autoencoder", steps=4, save_every=10**6)
    log, read = tmp_path / "metrics.jsonl", HostBatches.__next__

    def interrupted(batches: HostBatches) -> Batch:
        if log.exists() and log.read_text():
            os.kill(os.getpid(), signal.SIGINT)
        return read(batches)

    monkeypatch.setattr(HostBatches, "__next__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(config, data=pictures, workdir=tmp_path)
    assert whole_steps(tmp_path / "checkpoints") == [2]
