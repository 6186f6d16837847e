"""Pictures that lie on the devices: what is drawn from them, and runs on them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from rcodec_jax import scale
from rcodec_jax.config import to_json
from rcodec_jax.config.train import DataConfig, SourceConfig, StageConfig, TrainConfig
from rcodec_jax.data import ImageFolder, select
from rcodec_jax.data.loading.transforms import to_grey
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.train import run
from rcodec_jax.train.input import resident
from rcodec_jax.train.input.batches import open_sources
from rcodec_jax.train.input.resident import ResidentBatches, hold_pictures
from rcodec_jax.train.loop import loop

TIMES = ("step_seconds", "pixels_per_second", "data_share", "unix_seconds")


@pytest.fixture
def config(tools, monkeypatch):
    monkeypatch.setattr(resident, "MAP_COUNT", 32)
    return tools.config("autoencoder", steps=4, data=DataConfig(resident=True))


def batches_of(config, pictures, mesh=None, **data) -> ResidentBatches:
    train = dataclasses.replace(config.train, data=DataConfig(resident=True, **data))
    config = dataclasses.replace(config, train=train)
    mesh = scale.make_mesh(1) if mesh is None else mesh
    mixture = select(open_sources(config, None if "sources" in data else pictures), "images")
    return ResidentBatches(config, 0, hold_pictures(mixture, config, mesh), mesh)


def test_batches_hold_crops_of_the_pictures(config, pictures) -> None:
    source, batches = ImageFolder(pictures), batches_of(config, pictures)
    whole = [source.read(index) for index in range(5)]
    windows = [np.lib.stride_tricks.sliding_window_view(p, (64, 64, 3)).squeeze(2) for p in whole]
    seen, mirrored = set(), 0
    for index in range(6):
        batch = jax.device_get(next(batches))
        for crop in batch["image"]:
            found = [
                (picture, flip)
                for picture, view in enumerate(windows)
                for flip in (0, 1)
                if (view == (crop[:, ::-1] if flip else crop)).all((2, 3, 4)).any()
            ]
            assert len(found) == 1
            seen.add(found[0][0])
            mirrored += found[0][1]
        again = batches.batch(index)
        np.testing.assert_array_equal(again["image"], batch["image"])
        np.testing.assert_array_equal(again["level_map"], batch["level_map"])
        assert (np.diff(batch["nodes"], axis=1) >= 0).all()
    assert len(seen) == 5 and 0 < mirrored < 24
    assert batches.get_state() == {"next_index": 6}


def test_sources_have_their_shares_and_crops_their_greys(config, pictures) -> None:
    sources = (SourceConfig(str(pictures), 3.0), SourceConfig("made:4", 1.0))
    held = batches_of(config, pictures, sources=sources).held
    chance = np.diff(np.asarray(held["chance"]), prepend=0)
    np.testing.assert_allclose(chance, [0.15] * 5 + [0.0625] * 4, rtol=1e-5)
    held = batches_of(config, pictures, made=0.25).held  # beside what the command line names
    chance = np.diff(np.asarray(held["chance"]), prepend=0)
    np.testing.assert_allclose(chance[:5], 0.15, rtol=1e-5)
    np.testing.assert_allclose(chance[5:], 0.25 / 240, rtol=1e-3)
    plain, grey = batches_of(config, pictures), batches_of(config, pictures, grey=1.0)
    for a, b in zip(next(plain)["image"], next(grey)["image"], strict=True):
        assert np.abs(to_grey(np.asarray(a)).astype(int) - b).max() <= 1
    half = batches_of(config, pictures, grey=0.5)
    greys = [np.ptp(np.asarray(half.batch(n)["image"]), axis=3).max((1, 2)) == 0 for n in range(8)]
    assert 0.2 < np.mean(greys) < 0.8


def test_small_pictures_are_padded_and_batches_split_over_devices(config, pictures) -> None:
    stage = dataclasses.replace(config.train.stages[0], crop_px=96, batch_size=4)
    wide = dataclasses.replace(config, train=dataclasses.replace(config.train, stages=(stage,)))
    one = next(batches_of(wide, pictures))
    two = next(batches_of(wide, pictures, scale.make_mesh(2)))
    assert one["image"].shape == (4, 96, 96, 3)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert len(two["image"].sharding.device_set) == 2


def test_stopped_and_resumed_is_bitwise_one_run(config, pictures, tools, tmp_path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(config, data=pictures, workdir=whole) == 4
    for steps in (3, 4):
        assert run(tools.stop_after(config, steps), data=pictures, workdir=parts) == steps
    expected, found = tools.state(config, whole), tools.state(config, parts)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    logs = [tools.metrics(folder) for folder in (whole, parts)]
    for row in (*logs[0], *logs[1]):
        for name in TIMES:
            del row[name]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_several_steps_in_one_program(config, pictures, tools, tmp_path, monkeypatch) -> None:
    """The same steps, but for rounding, and what is reported and saved."""
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, log_every=2, sample_every=2)
    )
    assert run(config, data=pictures, workdir=tmp_path / "one") == 4
    monkeypatch.setattr(loop, "steps_per_call", lambda *_: 2)
    assert run(config, data=pictures, workdir=tmp_path / "two") == 4
    one, two = (tools.metrics(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == [2, 4]
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "kl", "psnr", "learning_rate"):
            assert b[name] == pytest.approx(a[name], rel=1e-3), name
    assert sorted(p.name for p in (tmp_path / "two" / "samples").iterdir()) == sorted(
        p.name for p in (tmp_path / "one" / "samples").iterdir()
    )
    assert tools.state(config, tmp_path / "two")[".step"] == 4


def test_a_bad_step_within_a_program_is_named(config, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "steps_per_call", lambda *_: 2)
    stage = dataclasses.replace(config.train.stages[0], learning_rate=1e30)
    bad = dataclasses.replace(
        config, train=dataclasses.replace(config.train, stages=(stage,), log_every=4)
    )
    with pytest.raises(RcodecError, match=r"step [234] is not finite: first in "):
        run(bad, data=pictures, workdir=tmp_path)


def test_steps_of_a_program_divide_every_interval() -> None:
    class Mesh:
        devices = np.array([dataclasses.make_dataclass("Device", ["platform"])("gpu")])

    train = TrainConfig(log_every=50, save_every=1000, sample_every=0)
    per_call = resident.steps_per_call
    assert per_call(train, 0, 5000, Mesh) == per_call(train, 0, None, Mesh) == 10  # type: ignore[arg-type]
    assert per_call(train, 5, 5000, Mesh) == 5  # type: ignore[arg-type]
    assert per_call(train, 0, 4181, Mesh) == 1  # type: ignore[arg-type]
    assert per_call(dataclasses.replace(train, profile=(2, 1)), 0, None, Mesh) == 1  # type: ignore[arg-type]
    assert per_call(train, 0, None, scale.make_mesh(1)) == 1


def test_cached_latents_are_refused() -> None:
    stage = StageConfig(kind="codec", latents=True)
    with pytest.raises(ValueError, match="resident: expected stages of pictures"):
        TrainConfig(stages=(stage,), data=DataConfig(resident=True))


def test_more_pixels_than_can_be_counted_are_refused(config, pictures, monkeypatch) -> None:
    monkeypatch.setattr(resident, "MAX_PIXELS", 1000)
    with pytest.raises(UsageError, match="at most 1,000 pixels in all, got 38,400"):
        batches_of(config, pictures)


def test_readers_of_other_formats_need_not_be_installed(config, pictures, tmp_path) -> None:
    """A machine lent for an hour has JAX, and little else."""
    code = """
import sys
for name in ("grain", "tensorflow_datasets", "array_record"):
    sys.modules[name] = None
from rcodec_jax.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    recipe = tmp_path / "pico.py"
    recipe.write_text(
        "from rcodec_jax.config import from_json\nfrom rcodec_jax.config.train import Config\n\n"
        f"def config():\n    return from_json(Config, {to_json(config)!r})\n"
    )
    command = [
        *(sys.executable, "-c", code, "train", str(recipe), "--resident", "--device", "cpu"),
        *("--data", str(pictures), "--workdir", str(tmp_path / "run"), "--set", "train.steps=2"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 75) and "step 2/2" in done.stderr, done.stderr
