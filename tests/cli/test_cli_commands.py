"""train, freeze, bench and demo: what they hand on and what they print."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.bench import codec as bench
from rcodec_jax.bench import pictures
from rcodec_jax.cli.main import main
from rcodec_jax.config.train import MeshConfig
from rcodec_jax.errors import RcodecError, StorageError
from rcodec_jax.model.rateloss import RateLoss

MIXED = """
from rcodec_jax.config.train import Config, DataConfig, SourceConfig, TrainConfig

def config():
    sources = (SourceConfig("A", 3.0), SourceConfig("B"))
    return Config(train=TrainConfig(data=DataConfig(sources=sources)))
"""
RECIPE = """
from rcodec_jax.config.train import Config

def config():
    return Config()
"""


@pytest.fixture
def recipe(tmp_path) -> str:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture
def trainer(monkeypatch) -> types.SimpleNamespace:
    """Stands in for the training loop; `finished` is what it says of the run."""
    fake = types.SimpleNamespace(calls=[], finished=True)

    def run(config, *, data, workdir, allow_changes) -> types.SimpleNamespace:
        fake.calls.append((config, data, workdir, allow_changes))
        return types.SimpleNamespace(finished=fake.finished)

    monkeypatch.setattr("rcodec_jax.train.train", run)
    return fake


def test_train_passes_the_recipe_with_its_changes(trainer, recipe, tmp_path):
    words = ["train", recipe, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main([*words, "--set", "train.seed=7", "--set", "train.clip=0.5"]) == 0
    config, data, workdir, allow_changes = trainer.calls[0]
    assert (config.train.seed, config.train.clip) == (7, 0.5)
    assert (data, workdir) == (str(tmp_path), str(tmp_path / "run"))
    assert allow_changes == []


def test_several_sources_with_weights_are_the_mixture(trainer, recipe, tmp_path, capsys):
    words = ["train", recipe, "--workdir", str(tmp_path / "run")]
    odd = tmp_path / "odd:3"
    odd.mkdir()
    given = [
        "A:3",
        "B:.5",
        "made:100",
        "made:100:2",
        "voc/2007:4.0.0",
        "made",
        str(odd),
        f"{odd}:2",
    ]
    assert main([*words, *(word for one in given for word in ("--data", one))]) == 0
    config, data, *_ = trainer.calls[0]
    assert data is None
    assert [(source.path, source.weight) for source in config.train.data.sources] == [
        ("A", 3.0),
        ("B", 0.5),
        ("made:100", 1.0),
        ("made:100", 2.0),
        ("voc/2007:4.0.0", 1.0),
        ("made", 1.0),
        (str(odd), 1.0),
        (str(odd), 2.0),
    ]
    assert capsys.readouterr().err == ""
    assert main([*words, "--data", "A:0"]) == 2
    assert "expected a weight above 0, got 'A:0'" in capsys.readouterr().err


def test_data_that_replaces_a_recipes_mixture_is_reported(trainer, tmp_path, capsys):
    recipe = tmp_path / "mixed.py"
    recipe.write_text(MIXED)
    words = ["train", str(recipe), "--workdir", str(tmp_path / "run"), "--data", "C"]
    assert main(words) == 0
    assert trainer.calls[0][1] == "C"
    note = (
        "rcodec: note: --data replaces the sources of the recipe: C (1) instead of A (3), B (1)\n"
    )
    assert capsys.readouterr().err == note


def test_stopped_training_has_a_code_of_its_own(trainer, recipe, tmp_path):
    trainer.finished = False
    words = ["train", recipe, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main(words) == 75


def test_failed_storage_is_no_bad_input(monkeypatch, recipe, tmp_path, capsys):
    """Launchers start such a run again; code 2 would be the end of it."""

    def run(config, **options) -> int:
        raise StorageError("saving step 3 failed: Stale file handle")

    monkeypatch.setattr("rcodec_jax.train.train", run)
    words = ["train", recipe, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main(words) == 74
    assert capsys.readouterr().err == "rcodec: error: saving step 3 failed: Stale file handle\n"


def test_a_device_that_is_held_is_no_bad_input(monkeypatch, recipe, tmp_path, capsys):
    """A process that was just killed holds a TPU for a while; the launcher has to try again."""

    def run(config, **options) -> int:
        raise RuntimeError("Unable to initialize backend 'tpu': ABORTED: in use by pid 7\nmore")

    monkeypatch.setattr("rcodec_jax.train.train", run)
    words = ["train", recipe, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main(words) == 1
    said = "rcodec: error: no device to train on: Unable to initialize backend 'tpu': ABORTED: "
    assert capsys.readouterr().err == f"{said}in use by pid 7\n"
    assert main([*words, "--device", "cpu"]) == 2


@pytest.mark.parametrize("words", [["--workdir", "run"], ["--data", "."]])
def test_train_needs_its_folders(trainer, recipe, words, capsys):
    assert main(["train", recipe, *words]) == 2
    assert trainer.calls == []
    assert capsys.readouterr().err.count("\n") == 1


def test_meshes_and_validation_are_options(trainer, recipe, tmp_path, capsys):
    words = ["train", recipe, "--data", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main([*words, "--mesh", "data=2,fsdp=4", "--validation", "folder/of/others"]) == 0
    assert main([*words, "--mesh", "slices=2,data=8", "--validation", ".02"]) == 0
    (first, *_), (second, *_) = trainer.calls
    assert first.train.mesh == MeshConfig(data=2, fsdp=4)
    assert second.train.mesh == MeshConfig(data=8, slices=2)
    found = [(c.train.validation.data, c.train.validation.share) for c in (first, second)]
    assert found == [("folder/of/others", 0.0), (None, 0.02)]
    assert main([*words, "--validation", "2"]) == 2
    assert "--validation: expected a share above 0 and below 1" in capsys.readouterr().err


def test_describe_trains_nothing(trainer, recipe, capsys):
    assert main(["train", recipe, "--set", "train.steps=20", "--describe", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["config"]["train"]["steps"] == figures["steps"] == 20
    parts = figures["parameters"]
    assert parts["all"] == sum(count for part, count in parts.items() if part != "all")
    (stage,) = figures["stages"]
    assert stage["steps"] == 20 and figures["total_flops"] == 20 * stage["flops"] > 0
    assert "hours" not in figures
    words = ["--mesh", "data=2,fsdp=4", "--chip", "v5e", "--utilisation", ".25"]
    assert main(["train", recipe, "--set", "train.steps=20", "--describe", "--json", *words]) == 0
    hours = json.loads(capsys.readouterr().out)["hours"]
    assert hours == pytest.approx(figures["total_flops"] / (8 * 197e12 * 0.25 * 3600))
    assert main(["train", recipe, "--chip", "v5e", "--data", "x", "--workdir", "y"]) == 2
    assert "--chip: only valid with --describe" in capsys.readouterr().err
    assert trainer.calls == []


def test_unknown_key_names_near_ones(trainer, recipe, capsys):
    assert main(["train", recipe, "--set", "train.sead=1", "--describe"]) == 2
    assert "seed" in capsys.readouterr().err


def test_freeze_reports_what_it_wrote(monkeypatch, tmp_path, capsys):
    calls = []
    losses = {120: RateLoss(1000.0, 1001.0), 600: RateLoss(100.0, 99.0)}

    def freeze(source, out, *, step, card, bits) -> dict[int, RateLoss]:
        calls.append((source, step, card, bits))
        (tmp_path / "bundle").mkdir(exist_ok=True)
        (tmp_path / "bundle" / "card.json").write_bytes(b"{}")
        return losses

    monkeypatch.setitem(
        sys.modules, "rcodec_jax.model.freezing", types.SimpleNamespace(freeze=freeze)
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "more.json").write_text('{"hours": 3}')
    words = ["freeze", str(tmp_path / "run"), "--out", str(tmp_path / "bundle"), "--step", "40"]
    assert main([*words, "--json", "--card", str(tmp_path / "more.json")]) == 0
    assert calls == [(str(tmp_path / "run"), 40, {"hours": 3}, 16)]
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["files"] == {"card.json": 2} and figures["bytes"] == 2
    assert figures["rate_loss"] == pytest.approx({"120": 0.001, "600": -0.01})
    assert "warning" not in captured.err
    losses[800] = RateLoss(100.0, 101.0)
    assert main([*words, "--force", "--bits", "8"]) == 0 and calls[-1][-1] == 8
    captured = capsys.readouterr()
    assert "integer arithmetic costs up to 1.000 % of the rate" in captured.out
    assert "warning" in captured.err and "at most 0.3 %" in captured.err
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    (tmp_path / "more.json").write_text("[]")
    assert main([*words, "--force", "--card", str(tmp_path / "more.json")]) == 2
    assert "expected a JSON object, got list" in capsys.readouterr().err


def test_synthetic_picture_is_the_same_everywhere():
    picture = pictures.synthetic(40, 60)
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, pictures.synthetic(40, 60))
    assert 20 < picture.std() < 100
    assert pictures.synthetic(1, 1).shape == (1, 1, 3)


def test_bench_rows_and_json(codec, monkeypatch, capsys):
    runs, caches = [], set()

    def run_command(words, *, cache) -> bench.Command:
        runs.append(words)
        caches.add(cache)
        return bench.Command(len(runs), 100.0 + len(runs), 10.0 * len(runs))

    monkeypatch.setattr(bench, "run_command", run_command)
    monkeypatch.setattr(bench, "WIDTH_PX", 48)
    monkeypatch.setattr(bench, "HEIGHT_PX", 32)
    words = ["bench", "codec", "--repeats", "1", "--json", "--threads", "2", "--bpp", "8"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    ours, jpeg, webp = figures["rows"]
    assert ours["psnr_db"] == pytest.approx(78.13, abs=0.01)  # the stand-in loses nothing
    # Each command runs twice, the first time with a cache that is empty.
    assert len(caches) == 1 and not Path(*caches).exists()
    assert (ours["cold_encode_s"], ours["cold_decode_s"]) == (1, 3)
    assert (ours["cpu_encode_s"], ours["cpu_decode_s"]) == (20, 40)
    assert [words[0] for words in runs] == ["encode"] * 2 + ["decode"] * 2
    assert (ours["command_encode_s"], ours["command_decode_s"]) == (2, 4)
    assert ours["peak_decode_mib"] == 104
    assert all(words[-2:] == ["--threads", "2"] for words in runs)
    for row in (jpeg, webp):
        assert row["size_bytes"] <= ours["size_bytes"] and row["command_encode_s"] is None
        assert row["bpp"] == pytest.approx(row["size_bytes"] * 8 / (48 * 32))


def test_bench_takes_a_picture(codec, photo, monkeypatch, capsys):
    monkeypatch.setattr(bench, "WIDTH_PX", 48)
    monkeypatch.setattr(bench, "HEIGHT_PX", 32)
    words = ["bench", "codec", "--repeats", "1", "--picture", photo, "--no-commands"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "JPEG, quality" in out and "model: fake\n" in out
    assert codec.calls[0]["bpp"] == 0.2


def test_commands_are_measured_in_processes_of_their_own():
    mine = np.ones(600 << 20, np.uint8)  # of this process, and none of the command's
    command = bench.run_command(["--version"])
    assert (
        0 < command.cpu_s < 60
        and 0 < command.seconds < 60
        and 1 < command.peak_mib < mine.nbytes / 2**20
    )
    with pytest.raises(RcodecError, match="rcodec nonsense failed with code 2: rcodec: error"):
        bench.run_command(["nonsense"])


def test_demo_writes_pictures_and_figures(codec, photo, tmp_path, capsys):
    folder = tmp_path / "demo"
    words = ["demo", "--out", str(folder), "--picture", photo, "--box", "8,8,24,24"]
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    region, uniform = figures["rows"]
    assert region["name"] == "region" and region["psnr_db"] == pytest.approx(
        78.13, abs=0.01
    )  # the same picture
    # The second file gets the bytes of the first, so that the pictures can be compared.
    assert codec.calls[2]["size_bytes"] == region["bytes"]
    assert codec.calls[2]["importance"] is None
    side_by_side = np.asarray(Image.open(folder / "side-by-side.png"))
    assert side_by_side.shape == (37 * 2, 50 * 3, 3)
    assert {f"{name}.png" for name in figures["pictures"]} | {"region.rdc", "uniform.rdc"} == {
        path.name for path in folder.iterdir()
    }
    assert main(words) == 0  # an earlier demo is replaced
    assert "PSNR in region" in capsys.readouterr().out
    (folder / "precious").write_text("")
    assert main(words) == 2
    assert "'precious'" in capsys.readouterr().err
