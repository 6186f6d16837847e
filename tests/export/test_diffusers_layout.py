"""Doors in and out: what comes back is what went in, and what does not fit is named."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import layouts
import numpy as np
import pytest
import safetensors.numpy
from layouts import UNET_FILE, VAE_FILE

from rcodec_jax.cli.main import main
from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config
from rcodec_jax.errors import UsageError
from rcodec_jax.export import importing
from rcodec_jax.export.exporting import export_diffusers, export_weights
from rcodec_jax.export.importing import import_diffusers
from rcodec_jax.model.networks import parameter_shapes
from rcodec_jax.model.trained import load_trained
from rcodec_jax.model.weights import open_weights


def exports(root: Path, name: str) -> tuple[Path, Path]:
    """(weights, the same in diffusers' layout)."""
    layouts.random_weights(root / "ours", layouts.small(linear=name == "sd21"))
    export_diffusers(load_trained(root / "ours"), root / "theirs")
    return root / "ours", root / "theirs"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    """A model like Stable Diffusion 2.1."""
    return exports(tmp_path_factory.mktemp("sd21"), "sd21")


@pytest.fixture
def model(exported, tmp_path) -> Path:
    """A copy in diffusers' layout, to be changed."""
    return Path(shutil.copytree(exported[1], tmp_path / "model"))


@pytest.fixture(autouse=True)
def quick_entropy_model(monkeypatch) -> None:
    """Zeros instead of compiling an initialiser for every import; one test takes the real one."""

    def zeros(config, seed):
        shapes = parameter_shapes(config).items()
        return {n: np.zeros(s, np.float32) for n, s in shapes if n.startswith("hyper_")}

    monkeypatch.setattr(importing, "entropy_model", zeros)


def take(source, out, **options):
    """Imports with a small entropy model."""
    return import_diffusers(str(source), out, hyper=layouts.HYPER, **options)


def edit(file: Path, **changes: object) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | changes))


def same_floats(a: Path, b: Path) -> bool:
    first, second = open_weights(a), open_weights(b)
    names = [name for name in first.names if not name.startswith("hyper_")]
    return all(
        first.dtype(n) == second.dtype(n) and np.array_equal(first.read(n), second.read(n))
        for n in names
    )


@pytest.mark.parametrize("name", ["sd21", "sd15"])
def test_export_and_import_is_the_identity(tmp_path, name: str) -> None:
    ours, theirs = exports(tmp_path / "first", name)
    done = take(theirs, tmp_path / "again")
    assert same_floats(ours, tmp_path / "again") and done.context == "context.npy"
    first, second = open_weights(ours), open_weights(tmp_path / "again")
    assert second.config == first.config
    assert second.power == first.power and not second.shift.any()
    export_diffusers(load_trained(tmp_path / "again"), tmp_path / "theirs")
    for path in theirs.rglob("*.*"):
        again = tmp_path / "theirs" / path.relative_to(theirs)
        assert again.read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_precision_is_kept(tmp_path, dtype: str) -> None:
    ours = layouts.random_weights(tmp_path / "ours", layouts.small(), dtype=dtype)
    export_diffusers(load_trained(ours), tmp_path / "theirs")
    for file in (UNET_FILE, VAE_FILE):  # as the hub names half precision
        path = tmp_path / "theirs" / file
        path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    take(tmp_path / "theirs", tmp_path / "again")
    first, second = open_weights(ours), open_weights(tmp_path / "again")
    name = "unet/conv_in/conv/kernel"
    assert second.dtype(name) == first.dtype(name) == dtype
    np.testing.assert_array_equal(second.read(name), first.read(name))


def test_a_shift_of_the_latent_survives(tmp_path) -> None:
    ours = layouts.random_weights(tmp_path / "ours", layouts.small(), shift=0.5)
    export_diffusers(load_trained(ours), tmp_path / "theirs")
    take(tmp_path / "theirs", tmp_path / "again")
    np.testing.assert_array_equal(open_weights(tmp_path / "again").shift, [0.0, 0.5, 1.0, 1.5])
    # the other way of saying it: one number
    vae = json.loads((tmp_path / "theirs/vae/config.json").read_text())
    vae = vae | {"latents_mean": None, "latents_std": None, "shift_factor": 0.25}
    (tmp_path / "theirs/vae/config.json").write_text(json.dumps(vae))
    take(tmp_path / "theirs", tmp_path / "once")
    np.testing.assert_array_equal(open_weights(tmp_path / "once").shift, [0.25] * 4)


def test_shards_with_an_index(exported, model, tmp_path) -> None:
    tensors = safetensors.numpy.load((model / UNET_FILE).read_bytes())
    (model / UNET_FILE).unlink()
    names = sorted(tensors)
    weight_map = {}
    for i in range(3):
        shard = f"diffusion_pytorch_model-0000{i + 1}-of-00003.safetensors"
        part = {name: tensors[name] for name in names[i::3]}
        (model / "unet" / shard).write_bytes(safetensors.numpy.save(part))
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (model / f"{UNET_FILE}.index.json").write_text(json.dumps(index))
    take(model, tmp_path / "again")
    assert same_floats(exported[0], tmp_path / "again")


def test_old_names_of_the_attention(exported, model, tmp_path) -> None:
    """As Stable Diffusion's own repositories have them, some as 1x1 convolutions."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        renamed = {}
        for name, value in tensors.items():
            for new, before in old.items():
                name = name.replace(f".{new}.", f".{before}.")
            if name.endswith("query.weight"):
                value = value[..., None, None]
            renamed[name] = value
        return renamed

    layouts.rewrite(model / VAE_FILE, rename)
    take(model, tmp_path / "again")
    assert same_floats(exported[0], tmp_path / "again")


def test_what_does_not_fit_is_named_and_nothing_is_written(model, tmp_path) -> None:
    def spoil(tensors):
        tensors = dict(tensors)
        tensors["loss.logvar"] = tensors.pop("encoder.conv_in.bias")
        tensors["decoder.conv_out.weight"] = np.zeros((3, 4, 1, 1), np.float32)
        return tensors

    layouts.rewrite(model / VAE_FILE, spoil)
    with pytest.raises(UsageError) as caught:
        take(model, tmp_path / "again")
    text = str(caught.value)
    assert "1 missing: vae/encoder.conv_in.bias" in text
    assert "1 unknown: vae/loss.logvar" in text
    assert "vae/decoder.conv_out.weight (expected [3, 4, 3, 3], got [3, 4, 1, 1])" in text
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"beta_end": 0.02}, "beta_end: expected 0.012"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "expected False"),
        ("unet/config.json", {"in_channels": 9}, "in_channels: expected 4, got 9"),
        ("unet/config.json", {"attention_head_dim": [3, 4]}, "attention_head_dim"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type"),
        ("unet/config.json", {"transformer_layers_per_block": [1, 2]}, "transformer_layers"),
        ("unet/config.json", {"up_block_types": ["UpBlock2D"] * 2}, "up_block_types"),
        ("unet/config.json", {"norm_num_groups": "many"}, "norm_num_groups"),
        ("vae/config.json", {"use_post_quant_conv": False}, "use_post_quant_conv"),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor"),
        ("vae/config.json", {"latents_mean": [0.0], "latents_std": [1.0]}, "latents_mean"),
    ],
)
def test_other_architectures_are_refused(model, tmp_path, file, changes, message) -> None:
    edit(model / file, **changes)
    with pytest.raises(UsageError, match=message) as caught:
        take(model, tmp_path / "again")
    assert file in str(caught.value) and not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("says", "schedule"),
    [
        ({}, "linear"),  # what diffusers takes where a file does not say
        ({"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}, "linear"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
    ],
)
def test_the_noise_schedule_comes_along_and_goes_back(model, tmp_path, says, schedule) -> None:
    path = "scheduler/scheduler_config.json"
    (model / path).write_text(json.dumps(says))
    take(model, tmp_path / "taken")
    assert open_weights(tmp_path / "taken").config.noise_schedule == schedule
    export_diffusers(load_trained(tmp_path / "taken"), tmp_path / "back")
    written = json.loads((tmp_path / "back" / path).read_text())
    assert written["beta_schedule"] == schedule
    assert written.items() >= says.items()


def test_schedulers_of_other_processes_are_refused(model, tmp_path) -> None:
    path = model / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}))
    with pytest.raises(UsageError, match="_class_name: expected a scheduler with betas"):
        take(model, tmp_path / "again")


@pytest.mark.parametrize("says", [{"beta_schedule": "sigmoid"}, {"beta_schedule": ["linear"]}])
def test_an_unknown_noise_schedule_is_refused(model, tmp_path, says) -> None:
    edit(model / "scheduler/scheduler_config.json", **says)
    with pytest.raises(UsageError, match="beta_schedule: expected one of scaled_linear, linear"):
        take(model, tmp_path / "again")


def test_pickles_are_not_opened(model, tmp_path) -> None:
    (model / UNET_FILE).rename(model / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UsageError, match="pickles only"):
        take(model, tmp_path / "again")


def test_where_the_context_comes_from(model, tmp_path) -> None:
    given = np.random.default_rng(1).normal(size=(1, 9, 12)).astype(np.float16)
    np.save(tmp_path / "given.npy", given)
    take(model, tmp_path / "a", context=str(tmp_path / "given.npy"))
    weights = open_weights(tmp_path / "a")
    assert weights.config.unet.context_tokens == 9
    np.testing.assert_array_equal(weights.read("unet/context"), given[0].astype(np.float32))
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        done = take(model, tmp_path / name, context="learned", seed=seed)
        assert done.config.unet.context_tokens == 77 and "learned" in done.context
    b, c, d = (open_weights(tmp_path / name).read("unet/context") for name in "bcd")
    assert np.array_equal(b, c) and not np.array_equal(b, d)
    np.save(tmp_path / "wrong.npy", given[..., :7])
    with pytest.raises(UsageError, match=r"expected a context of shape \[tokens, 12\]"):
        take(model, tmp_path / "e", context=str(tmp_path / "wrong.npy"))
    np.savez(tmp_path / "many.npz", given)
    archive = (tmp_path / "many.npz").read_bytes()
    for data in (b"", b"text", archive, archive[:-9], (tmp_path / "given.npy").read_bytes()[:-1]):
        (tmp_path / "damaged.npy").write_bytes(data)
        with pytest.raises(UsageError, match=r"expected an array of floats in \.npy"):
            take(model, tmp_path / "e", context=str(tmp_path / "damaged.npy"))
    with pytest.raises(UsageError, match="text encoder"):
        take(model, tmp_path / "e", context="text")


def test_a_model_of_the_hub(exported, tmp_path, monkeypatch) -> None:
    """Only the files that are needed are fetched."""
    ours, theirs = exported
    fetched = []

    def fetch(name, file):
        fetched.append(file)
        return str(theirs / file)

    listed = [path.relative_to(theirs).as_posix() for path in theirs.rglob("*.*")]
    monkeypatch.setattr("rcodec_jax.export.repository.check_reachable", lambda *_: None)
    hub = types.SimpleNamespace(
        constants=types.SimpleNamespace(ENDPOINT="https://hub.invalid"),
        list_repo_files=lambda name: [*listed, "unet/diffusion_pytorch_model.bin", "v1.ckpt"],
        hf_hub_download=fetch,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.chdir(tmp_path)
    take("someone/something", tmp_path / "again")
    assert same_floats(ours, tmp_path / "again")
    assert set(fetched) == set(listed)
    recipe = load_config(tmp_path / "again" / "recipe.py", Config)
    assert recipe.model == open_weights(tmp_path / "again").config
    assert recipe.train.init_from == str(tmp_path / "again")
    assert recipe.name == "something"

    def unreachable(name):
        raise OSError("no route to host\nand more")

    hub.list_repo_files = unreachable
    with pytest.raises(UsageError, match="someone/something: .*no route to host$"):
        take("someone/something", tmp_path / "other")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"rcodec-jax\[hub\]"):
        take("someone/something", tmp_path / "other")


def test_models_of_our_own_kind_cannot_be_expressed(tmp_path, capsys) -> None:
    from rcodec_jax.model.bundle import shipped_bundle

    command = ["export", str(shipped_bundle()), "--format", "diffusers", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "patches of 4" in message and "channel normalisation" in message
    assert message.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_bundle_as_weights(tmp_path, capsys) -> None:
    from rcodec_jax.model.bundle import load_bundle, shipped_bundle

    command = ["export", str(shipped_bundle()), "--format", "safetensors", "--json", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "safetensors"
    bundle, weights = load_bundle(), open_weights(tmp_path / "out")
    assert weights.config == bundle.config and weights.ranges
    kernel = bundle.params["unet"]["conv_in"]["conv"]["kernel"]
    np.testing.assert_array_equal(weights.read("unet/conv_in/conv/kernel"), kernel)
    export_weights(load_trained(tmp_path / "out"), tmp_path / "copy")
    assert same_floats(tmp_path / "out", tmp_path / "copy")


def test_commands(model, tmp_path, monkeypatch, capsys) -> None:
    """There and back on the command line, with the real entropy model."""
    monkeypatch.undo()
    weights, back = str(tmp_path / "weights"), str(tmp_path / "back")
    assert main(["import", str(model), "--out", weights, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["parameters"]["hyper_synthesis"] > 2e6 and done["context"] == "context.npy"
    rows = open_weights(weights).read("hyper_synthesis/rows_0/linear_1/kernel")
    assert rows.any()
    assert main(["import", str(model), "--out", weights]) == 2  # it is there already
    assert "--force" in capsys.readouterr().err
    assert main(["export", weights, "--format", "diffusers", "--out", back]) == 0
    for file in (UNET_FILE, VAE_FILE):
        assert (model / file).read_bytes() == (Path(back) / file).read_bytes()
    assert main(["export", str(tmp_path), "--format", "diffusers", "--out", back, "--force"]) == 2
    assert "expected the folder of" in capsys.readouterr().err
