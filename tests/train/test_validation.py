"""Measurements on pictures that are held out: always the same, of the model alone."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from rcodec_jax.checkpoint import whole_steps
from rcodec_jax.config.train import DataConfig, SourceConfig, ValidationConfig
from rcodec_jax.data import ImageFolder, read_image
from rcodec_jax.data.pictures.sheet import CAPTION_PX, GAP_PX
from rcodec_jax.errors import UsageError
from rcodec_jax.model.networks import Networks
from rcodec_jax.train import run
from rcodec_jax.train.input.batches import open_sources
from rcodec_jax.train.input.heldout import crops, fixed_maps, held_out
from rcodec_jax.train.loop.manifest import read_starts
from rcodec_jax.train.loop.validation import _measured
from rcodec_jax.train.plan.describe import stage_batch
from rcodec_jax.train.step.build import Setup

SIDE = 64
TIMES = ("unix_seconds",)


def with_validation(config, **fields):
    wanted = ValidationConfig(crop_px=SIDE, **fields)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, validation=wanted))


def rows_of(workdir) -> list[dict]:
    rows = [json.loads(line) for line in (workdir / "validation.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def measured(pictures, tools, tmp_path_factory):
    """A run of two stages that was measured every two steps, and its folder."""
    config = tools.config("autoencoder", "joint", steps=3, keep_latest=1, keep_best=1)
    config = with_validation(config, share=0.4, every=2)
    workdir = tmp_path_factory.mktemp("measured")
    assert run(config, data=pictures, workdir=workdir) == 6
    return config, workdir


def test_rates_and_a_region_are_measured_at_their_steps(measured) -> None:
    _, workdir = measured
    rows = rows_of(workdir)
    low, high = 128, 768
    names = [f"node {round(low + share * (high - low))}" for share in (0.2, 0.5, 0.8)]
    joint = ["all", *names, "region"]
    steps = [(2, ["all", "autoencoder"]), (3, ["all", "autoencoder"]), (4, joint), (6, joint)]
    assert [(row["step"], row["map"]) for row in rows] == [(s, m) for s, ms in steps for m in ms]
    by_map = {row["map"]: row for row in rows if row["step"] == 6}
    rates = [by_map[name]["bpp"] for name in names]
    assert rates[0] > rates[1] > rates[2] > 0
    assert by_map["region"]["psnr_inside"] > 0 and by_map["region"]["psnr_outside"] > 0
    losses = [by_map[name]["loss"] for name in joint[1:]]
    assert by_map["all"]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert {row["stage"] for row in rows if row["step"] > 3} == {1}


def test_sheets_show_the_pictures_under_captions(measured, pictures) -> None:
    config, workdir = measured
    _, held = held_out(config, open_sources(config, pictures))
    shown = crops(held, config.train.validation)
    sheet = read_image(workdir / "validation" / "0000006.png").pixels
    assert sheet.shape == (len(shown) * (SIDE + CAPTION_PX + GAP_PX), 5 * (SIDE + GAP_PX), 3)
    for at, picture in enumerate(shown):
        top = at * (SIDE + CAPTION_PX + GAP_PX) + CAPTION_PX
        np.testing.assert_array_equal(sheet[top : top + SIDE, :SIDE], picture)
        strip = sheet[top - CAPTION_PX : top].reshape(CAPTION_PX, 5, -1)
        assert (strip.min(axis=(0, 2)) < 128).all(), "a caption over each"


def test_the_best_checkpoint_is_that_of_the_least_loss_on_them(measured) -> None:
    _, workdir = measured
    losses = {row["step"]: row["loss"] for row in rows_of(workdir) if row["map"] == "all"}
    best = min((4, 6), key=losses.__getitem__)  # of the last stage
    assert set(whole_steps(workdir / "checkpoints")) == {best, 6}
    kept = workdir / "checkpoints" / str(best) / "metrics" / "metrics"
    assert json.loads(kept.read_text())["validation"] == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_measures_the_same(measured, pictures, tools, tmp_path) -> None:
    config, whole = measured
    for steps in (4, 5, 6):
        assert run(tools.stop_after(config, steps), data=pictures, workdir=tmp_path) == steps
    rows = [row for row in rows_of(tmp_path) if row["step"] != 5]  # there it was told to end
    assert rows == rows_of(whole)


def test_held_out_pictures_are_never_trained_on(measured, pictures) -> None:
    config, workdir = measured
    train, held = held_out(config, open_sources(config, pictures))
    names = [[s.name(n) for n in range(s.picture_count)] for s in (train[0][0], held[0])]
    assert sorted(names[0] + names[1]) == [f"{n}.png" for n in range(5)] and names[1]
    data = read_starts(workdir)[-1]["data"]
    assert data["pictures"] == len(names[0]) and data["validation"]["pictures"] == len(names[1])
    with pytest.raises(UsageError, match=r"other settings: data .*--allow-change data"):
        run(with_validation(config, share=0.2, every=2), data=pictures, workdir=workdir)


@pytest.mark.slow
def test_resident_pictures_and_a_folder_of_others(measured, pictures, tools, tmp_path) -> None:
    """With either way to read, and on any mesh, a model has the same figures."""
    config = tools.config("joint", steps=1, data=DataConfig(resident=True))
    config = with_validation(config, data="made:3")
    found = []
    for name, devices in (("one", 1), ("four", 4)):
        train = dataclasses.replace(
            config.train, mesh=dataclasses.replace(config.train.mesh, data=devices)
        )
        given = dataclasses.replace(config, train=train)
        assert run(given, data=pictures, workdir=tmp_path / name) == 1
        found.append(rows_of(tmp_path / name))
    for a, b in zip(*found, strict=True):
        assert a["map"] == b["map"]
        for figure in {"bpp", "psnr"} & set(a):
            assert a[figure] == pytest.approx(b[figure], rel=1e-3), figure


def test_what_can_be_held_out(pictures, tools, tmp_path) -> None:
    config = tools.config("joint", data=DataConfig(made=0.5))
    train, held = held_out(with_validation(config, share=0.4), open_sources(config, pictures))
    assert [source.picture_count for source, _ in train][1] == 240  # made pictures are no photos
    assert len(held) == 1 and held[0].picture_count + train[0][0].picture_count == 5
    with pytest.raises(UsageError, match="not trained on, got ImageFolder"):
        same = with_validation(config, data=str(pictures))
        held_out(same, open_sources(config, pictures))
    inside = tmp_path / "pictures"
    shutil.copytree(pictures, inside)
    shutil.copytree(pictures, inside / "some")
    (inside / "some" / "0.png").unlink()
    with pytest.raises(UsageError, match="not trained on, got ImageFolder.*exclude"):
        held_out(with_validation(config, data=str(inside / "some")), open_sources(config, inside))
    apart = tools.config("joint", data=DataConfig(exclude=("some",)))
    held = held_out(with_validation(apart, data=str(inside / "some")), open_sources(apart, inside))
    assert held[1][0].picture_count == 4
    with pytest.raises(UsageError, match="share: expected a source of pictures to hold"):
        held_out(with_validation(config, share=0.4), [])
    only_made = tools.config("joint", data=DataConfig(sources=(SourceConfig("made:10"),)))
    train, held = held_out(with_validation(only_made, share=0.4), open_sources(only_made))
    assert train[0][0].picture_count + held[0].picture_count == 10
    for fields, text in (
        ({"share": 1.0}, "share: expected less than all"),
        ({"share": 0.1, "data": "x"}, "share: expected 0 beside data"),
    ):
        with pytest.raises(ValueError, match=text):
            ValidationConfig(**fields)


def test_crops_are_the_middles_evenly_over_all(pictures) -> None:
    source = ImageFolder(pictures)  # 96 by 80
    found = crops([source, source], ValidationConfig(data="x", pictures=4, crop_px=SIDE))
    for crop, index in zip(found, (0, 2, 0, 2), strict=True):
        np.testing.assert_array_equal(crop, source.picture(index)[16:80, 8:72])
    assert crops([source], ValidationConfig(data="x", crop_px=128)).shape == (5, 128, 128, 3)


def test_maps_are_the_same_on_every_call() -> None:
    first, again = fixed_maps((100, 900), 8, 24), fixed_maps((100, 900), 8, 24)
    assert [one.name for one in first] == ["node 260", "node 500", "node 740", "region"]
    for a, b in zip(first, again, strict=True):
        for one, other in zip(a.level_maps, b.level_maps, strict=True):
            np.testing.assert_array_equal(one.node_map, other.node_map)
    region = first[3]
    assert region.regions is not None
    assert (region.regions.mean((1, 2)) > 0.1).all() and (region.regions.mean((1, 2)) < 0.3).all()
    for one, mask in zip(region.level_maps, region.regions, strict=True):
        assert set(one.node_map[mask]) == {380} and set(one.node_map[~mask]) == {700}


@pytest.mark.parametrize("kind", ["autoencoder", "codec", "joint"])
def test_pictures_are_coded_once(kind: str, tools, monkeypatch) -> None:
    config = tools.config(kind)
    setup = Setup.of(config)
    calls: list[str] = []
    for name in ("encode", "denoise", "decode"):
        method = getattr(Networks, name)

        def counted(*args, method=method, name=name, **options):
            calls.append(name)
            return method(*args, **options)

        monkeypatch.setattr(Networks, name, counted)
    batch = stage_batch(config, config.train.stages[0])
    state = setup.shapes
    given = functools.partial(_measured, setup, config.train.stages[0], None)
    jax.eval_shape(given, state.averaged, state.stats, batch, np.int32(0))
    # The loss of the first stage decodes a sample, what is shown is decoded of the mean.
    expected = {"autoencoder": ["encode", "decode", "decode"]}
    assert calls == expected.get(kind, ["encode", "denoise", "decode"])
