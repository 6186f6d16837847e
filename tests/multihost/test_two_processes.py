"""Two processes of four devices each, killed, stopped, started again; and one process in between.

The mesh has all three axes, 2 x 2 x 2, so that each array is split, copied or both over processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and a shell script")


def _being_written(launched, least: int) -> list[int]:
    """Steps that are on their way to disk."""
    folder = launched.workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = [int(name.partition(".")[0]) for name in names if name.endswith("-tmp")]
    return [step for step in steps if step >= least]


def _same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_short_run_of_two_processes(cluster, tmp_path: Path) -> None:
    """What `undisturbed` has on eight devices and measures, without that: quick to compile."""
    words = ("mesh.data=1", "mesh.fsdp=2", "mesh.tensor=1", "steps=4", "save_every=4")
    words += ("sample_every=0", "validation.data=")
    settings = [word for setting in words for word in ("--set", f"train.{setting}")]
    launched = cluster.run(tmp_path, *settings, devices=2)
    assert launched.saved() == [4]
    rows = launched.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and rows[-1]["loss"] < rows[0]["loss"]
    (start,) = _starts(launched)
    assert start["devices"]["processes"] == start["devices"]["count"] == 2
    assert start["devices"]["mesh"]["fsdp"] == 2
    # each process wrote its half of what is split
    state = cluster.state(launched.workdir, 4)
    assert state["['step']"] == 4
    assert all(np.isfinite(value).all() for value in state.values())


@pytest.mark.slow
def test_the_run_is_whole(undisturbed, cluster) -> None:
    assert undisturbed.saved() == [3, 6, 9]
    rows = undisturbed.metrics()
    assert [row["step"] for row in rows] == list(range(1, cluster.steps + 1))
    assert rows[-1]["loss"] < rows[0]["loss"]
    # pictures are decoded by all, written by one
    assert [path.name for path in (undisturbed.workdir / "samples").iterdir()] == ["0000006.png"]
    (start,) = map(json.loads, (undisturbed.workdir / "manifest.jsonl").read_text().splitlines())
    assert start["devices"]["processes"] == 2 and start["devices"]["count"] == 8
    assert (
        start["devices"]["mesh"] | {"data": 2, "fsdp": 2, "tensor": 2} == start["devices"]["mesh"]
    )


@pytest.mark.slow
def test_what_all_processes_measure_is_what_one_device_would(undisturbed, cluster) -> None:
    """Pictures that are held out, three for the four rows that the devices hold."""
    from rcodec_jax.checkpoint import Checkpoints
    from rcodec_jax.scale import make_mesh
    from rcodec_jax.train.input.heldout import crops, held_out
    from rcodec_jax.train.loop.validation import Validation
    from rcodec_jax.train.step.build import Setup

    config = load_config(cluster.recipe, Config)
    setup = Setup.of(config, make_mesh(1, 1, 1))
    validation = Validation(setup, crops(held_out(config, [])[1], config.train.validation))
    validation.prepare(config.train.stages[0])
    with Checkpoints(undisturbed.workdir / "checkpoints", read_only=True) as checkpoints:
        states = {step: checkpoints.restore(step, setup.abstract_state)[0] for step in (6, 9)}
    rows = undisturbed.validation()
    names = ["all", "autoencoder"]
    assert [(row["step"], row["map"]) for row in rows] == [(s, n) for s in (6, 9) for n in names]
    for row in rows:
        measured, _ = validation.measure(states[row["step"]])
        expected = measured.by_map["autoencoder"]
        for figure in ("loss", "psnr") if row["map"] == "autoencoder" else ("loss",):
            assert row[figure] == pytest.approx(expected[figure], rel=1e-4), row
    sheets = sorted((undisturbed.workdir / "validation").iterdir())
    assert [path.name for path in sheets] == ["0000006.png", "0000009.png"]


def test_arrays_are_split_over_all_axes(cluster) -> None:
    """Or the runs here would prove nothing of `fsdp` and `tensor`."""
    import jax

    from rcodec_jax.train.step.build import Setup

    setup = Setup.of(load_config(cluster.recipe, Config))
    specs = [sharding.spec for sharding in jax.tree.leaves(setup.shardings.params)]
    assert {axis for spec in specs for axis in spec if axis} == {"fsdp", "tensor"}


@pytest.mark.slow
def test_killed_in_a_save_then_asked_to_stop_it_ends_with_the_same_bits(
    undisturbed, cluster, tmp_path: Path
) -> None:
    launched = cluster.launch(tmp_path / "disturbed")
    try:
        # SIGKILL to the first process in the middle of its second save
        launched.wait_until(lambda: _being_written(launched, 6))
        launched.kill(0, 0, signal.SIGKILL)
        assert 6 not in launched.saved()
        # SIGTERM to the second process, once both have started again; they still compile, so that
        # the run cannot have ended before all have heard of it
        launched.wait_until(lambda: launched.pids(1) and len(_starts(launched)) == 2)
        assert _starts(launched)[-1]["step"] == 3
        launched.kill(1, 1, signal.SIGTERM)
        assert launched.wait() == 0, launched.told()
    finally:
        launched.stop()
    assert "process 0 ended with code 137" in launched.said
    assert "saved and stopped; starting again" in launched.said
    stopped = _starts(launched)[-1]["step"]
    assert 4 <= stopped < cluster.steps and stopped in launched.saved()
    assert f"stopped by SIGTERM at step {stopped}" in launched.told()
    assert len(_starts(launched)) == 3
    _same_bits(
        cluster.state(launched.workdir, cluster.steps),
        cluster.state(undisturbed.workdir, cluster.steps),
    )
    assert launched.metrics() == undisturbed.metrics()
    assert launched.validation() == undisturbed.validation()


def _starts(launched) -> list[dict]:
    path = launched.workdir / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_two_processes_then_one_then_two(undisturbed, cluster, tmp_path: Path) -> None:
    """Every three steps on another number of processes, each on the other's checkpoint."""
    from rcodec_jax.train import run

    workdir = cluster.copy(undisturbed, 3, tmp_path / "run")
    config = load_config(cluster.recipe, Config)
    assert run(_until(config, 6), data=cluster.pictures, workdir=workdir) == 6
    back = cluster.run(tmp_path)
    expected = undisturbed.metrics()
    assert [row["step"] for row in back.metrics()] == [row["step"] for row in expected]
    for row, other in zip(back.metrics(), expected, strict=True):
        for name in ("loss", "psnr", "kl", "grad_norm"):
            assert row[name] == pytest.approx(other[name], rel=1e-4), (row["step"], name)
    found = cluster.state(workdir, cluster.steps)
    for name, value in cluster.state(undisturbed.workdir, cluster.steps).items():
        scale = np.abs(value).max(initial=1e-3)
        np.testing.assert_allclose(found[name], value, atol=1e-3 * scale, rtol=0, err_msg=name)


def _until(config: Config, steps: int) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))


def test_bad_input_ends_all_at_once(cluster, tmp_path: Path) -> None:
    launched = cluster.launch(tmp_path, "--set", "train.mesh.fsdp=3")
    assert launched.wait() == 2, launched.told()
    assert "rcodec: error: mesh" in launched.told() and "Traceback" not in launched.told()


def test_a_process_with_another_recipe_is_found_out(cluster, tmp_path: Path) -> None:
    """As on a pod with a host that was not brought up to date."""
    recipe = tmp_path / "pico.py"
    own = "import os\n" + cluster.recipe.read_text().replace(
        "stages, log_every=1", 'stages, seed=int(os.environ["JAX_PROCESS_ID"]), log_every=1'
    )
    recipe.write_text(own)
    launched = dataclasses.replace(cluster, recipe=recipe).launch(tmp_path)
    assert launched.wait() == 2, launched.told()
    assert "the same recipe in all processes, got another in process 1" in launched.told()
