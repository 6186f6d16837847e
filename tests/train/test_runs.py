"""Runs through the real entry point: every kind of stage, what it moves, resuming, sharding."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time

import jax
import numpy as np
import pytest

from rcodec_jax.config.train import MeshConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.model.freezing import freeze
from rcodec_jax.model.networks import PARTS as ALL_PARTS
from rcodec_jax.model.trained import load_trained
from rcodec_jax.train import run
from rcodec_jax.train.step.build import Setup

KINDS = ("autoencoder", "codec", "joint")
PARTS = ALL_PARTS[:-1]  # the tests' model has no context network
AUTOENCODER = ("encoder", "decoder")


@pytest.fixture(scope="module")
def stages(pictures, tools, tmp_path_factory):
    """(config, workdir, states at step 0 and after each stage) of one run of all three kinds."""
    config = tools.config(*KINDS, sample_every=6, keep_latest=9)
    workdir = tmp_path_factory.mktemp("stages")
    leaves = jax.tree_util.tree_flatten_with_path(Setup.of(config).initial_state())[0]
    states = [{jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}]
    assert run(config, data=pictures, workdir=workdir) == 6
    states += [tools.state(config, workdir, step) for step in (2, 4, 6)]
    return config, workdir, states


def moved(before: dict, after: dict, tree: str) -> set[str]:
    """Parts of the model with any changed array."""
    return {
        part
        for part in PARTS
        if any(
            not np.array_equal(before[name], after[name])
            for name in before
            if name.startswith(f".{tree}['{part}']")
        )
    }


def test_each_stage_moves_its_parts_and_nothing_else(stages) -> None:
    _, _, states = stages
    trained = [set(AUTOENCODER), set(PARTS) - set(AUTOENCODER), set(PARTS)]
    for before, after, parts in zip(states, states[1:], trained, strict=False):
        assert moved(before, after, "params") == parts
        assert after[".step"] == before[".step"] + 2
        assert all(np.isfinite(value).all() for value in after.values())


def test_the_codec_stage_leaves_the_latent_as_it_is(stages) -> None:
    """Statistics of a frozen encoder stay too, or the bundle's latent would shift."""
    _, _, states = stages
    for name in (".stats.shift", ".stats.power"):
        np.testing.assert_array_equal(states[1][name], states[2][name])
        assert np.any(states[0][name] != states[1][name])
        assert np.any(states[2][name] != states[3][name])


def test_metrics_are_one_line_a_step(stages, tools) -> None:
    _, workdir, _ = stages
    rows = tools.metrics(workdir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert {"loss", "grad_norm", "learning_rate", "step_seconds"} <= set(row)
        assert all(np.isfinite(value) for value in row.values())
        assert row["grad_norm"] > 0 and row["pixels_per_second"] > 0
    assert [row["stage"] for row in rows] == [0, 0, 1, 1, 2, 2]
    told = [row["unix_seconds"] for row in rows]
    assert told == sorted(told) and time.time() - 3600 < told[0] <= time.time()
    assert {"psnr", "kl"} <= set(rows[0]) and "bpp" not in rows[0]
    assert {"bpp", "bpp_y", "bpp_z", "latent"} <= set(rows[2]) and "psnr" not in rows[2]
    assert {"bpp", "psnr"} <= set(rows[4])
    assert rows[4]["bpp"] == pytest.approx(rows[4]["bpp_y"] + rows[4]["bpp_z"], rel=1e-3)


@pytest.mark.slow
def test_stopped_and_resumed_is_bitwise_one_run(stages, pictures, tools, tmp_path) -> None:
    """Stopped in the middle of a stage and at the border of two."""
    config, workdir, states = stages
    for steps in (3, 4, 6):
        assert run(tools.stop_after(config, steps), data=pictures, workdir=tmp_path) == steps
    found = tools.state(config, tmp_path)
    assert found.keys() == states[3].keys()
    for name, value in states[3].items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    # what was logged is the same as well, times apart
    logs = [tools.metrics(folder) for folder in (workdir, tmp_path)]
    for row in (*logs[0], *logs[1]):
        for name in ("step_seconds", "pixels_per_second", "data_share", "unix_seconds"):
            del row[name]
    assert logs[0] == logs[1]
    samples = [(folder / "samples" / "0000006.png").read_bytes() for folder in (workdir, tmp_path)]
    assert samples[0] == samples[1]


def test_lines_of_lost_steps_are_dropped(stages, pictures, tools) -> None:
    """A crash after a log line and before its checkpoint."""
    config, workdir, _ = stages
    log = workdir / "metrics.jsonl"
    before = log.read_text()
    log.write_text(before + json.dumps({"step": 7, "loss": 1.0}) + "\n")
    assert run(config, data=pictures, workdir=workdir) == 6  # nothing left to do
    assert log.read_text() == before


def test_a_model_outlives_the_rules_of_its_training(stages, tmp_path) -> None:
    """What a later version refuses to train by, it reads all the same."""
    _, workdir, _ = stages
    folder = shutil.copytree(workdir, tmp_path / "old")
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings["train"]["stages"][0]["crop_px"] = 7
    settings["train"]["of_earlier_versions"] = 1
    path.write_text(json.dumps(settings))
    before, after = (load_trained(source) for source in (workdir, folder))
    assert after.config == before.config and after.card == before.card
    path.write_text("{}")
    with pytest.raises(UsageError, match="not the configuration of a run"):
        load_trained(folder)


@pytest.mark.slow
def test_a_run_or_its_bundle_can_be_trained_on(stages, pictures, tools, tmp_path) -> None:
    """`train.init_from`: what an autoencoder stage leaves alone is what the source held."""
    config, workdir, states = stages
    freeze(workdir, tmp_path / "bundle")
    half = 2.0**-25  # what half precision, in which bundles keep floats, rounds by near 0
    for source, tolerance, least in ((workdir, 0.0, 0.0), (tmp_path / "bundle", 1e-3, half)):
        train = dataclasses.replace(config.train, init_from=str(source), steps=1)
        goes_on = tmp_path / f"from_{source.name}"
        assert run(dataclasses.replace(config, train=train), data=pictures, workdir=goes_on) == 1
        found = tools.state(config, goes_on)
        for name, value in states[3].items():
            part, _, rest = name.removeprefix(".ema['").partition("']")
            if part in set(PARTS) - set(AUTOENCODER) and name.startswith(".ema"):
                moved = np.abs(found[f".params['{part}']{rest}"] - value)
                assert moved.max() <= tolerance * np.abs(value).max() + least, name
    other = dataclasses.replace(config.model, latent_channels=2)
    with pytest.raises(UsageError, match="init_from: model.latent_channels: expected 2"):
        run(
            dataclasses.replace(config, model=other, train=train),
            data=pictures,
            workdir=tmp_path / "other",
        )


@pytest.mark.slow
def test_a_sharded_run_has_the_loss_of_one_device(pictures, tools, tmp_path) -> None:
    losses = {}
    for name, mesh in (("one", MeshConfig(data=1)), ("eight", MeshConfig(data=4, fsdp=2))):
        config = tools.config("joint", mesh=mesh, save_every=100)
        stage = dataclasses.replace(config.train.stages[0], batch_size=8)
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, stages=(stage,))
        )
        assert run(config, data=pictures, workdir=tmp_path / name) == 2
        losses[name] = tools.metrics(tmp_path / name)
    for one, eight in zip(losses["one"], losses["eight"], strict=True):
        for figure in ("loss", "bpp_y", "psnr", "grad_norm"):
            assert eight[figure] == pytest.approx(one[figure], rel=2e-4), figure
