"""Exported programs give our outputs where neither this package nor flax can be imported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rcodec_jax.cli.main import main
from rcodec_jax.codec.codec import Codec
from rcodec_jax.codec.decode import dequantise
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.presets import SD21_UNET, stable_diffusion
from rcodec_jax.diffusion.sampler import ddim
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.entropy import IntegerPart, dither_indices, dither_values
from rcodec_jax.errors import UsageError
from rcodec_jax.export import loader
from rcodec_jax.export import symbols as symbols_alone
from rcodec_jax.export.loader import ExportedModel
from rcodec_jax.export.programs import unit_cells
from rcodec_jax.export.stablehlo import export_stablehlo
from rcodec_jax.model.bundle import Bundle, load_bundle, save_bundle
from rcodec_jax.model.networks import LevelInputs, Networks, parameter_shapes
from rcodec_jax.model.trained import Trained, load_trained
from rcodec_jax.model.trees import unflatten

pytest.importorskip("flatbuffers")

NANO = Path(__file__).parents[1] / "golden" / "nano"
SOURCES = {"programs": Path(loader.__file__), "symbols": Path(symbols_alone.__file__)}
SIZES = ((3, 3, 1), (1, 4, 4))
"""Pictures and sides in units of the model's own multiple; the last is that of the golden file."""

ALONE = """
import importlib.metadata, re, sys
named = set()
def take(name):
    key = re.sub("[-_.]+", "-", name).lower()
    if key not in named:
        named.add(key)
        for line in importlib.metadata.requires(name) or ():
            if "extra ==" not in line:
                take(re.match(r"[\\w.-]+", line)[0])
for name in ("jax", "numpy", "safetensors"):
    take(name)
known = importlib.metadata.packages_distributions()
others = {
    root
    for root, owners in known.items()
    if not named & {re.sub("[-_.]+", "-", owner).lower() for owner in owners}
}
others.add("rcodec_jax")  # of a checkout
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
assert {"flatbuffers", "flax"} <= others, sorted(others)
"""
"""An environment with the packages that the loader names, and what these need, and no others."""

RUNNER = """
import sys
import numpy as np
import rcodec_programs
import rcodec_symbols
programs = rcodec_programs.ExportedModel(sys.argv[1])
cases = np.load(sys.argv[2])
found = {}
for case in sorted({name[0] for name in cases}):
    given = {k[2:]: v for k, v in cases.items() if k.startswith(case)}
    if "j" in given:
        symbols = [given[name] for name in ("z", "j", "nodes", "level_map")]
        start = rcodec_symbols.Dequantiser(sys.argv[1])(*symbols)
        found |= {case + name: value for name, value in start._asdict().items()}
        found[case + "picture"] = programs.picture(*start, symbols[3], size=given["size"])
        continue
    prior = [given["prior"]] if "prior" in given else []
    call = programs.call
    (found[case + "y"],) = call("encoder", given["image"])
    y = 10 * given["y"]
    (found[case + "z"],) = call("hyper_analysis", y, given["nodes"], given["level_map"])
    found[case + "output"] = call(
        "step", given["x"], given["t"], 0 * given["t"], given["level_map"], *prior
    )[0]
    (found[case + "image"],) = call("decoder", given["y"])
    found[case + "decoded"] = programs.decode(
        given["x"], given["level_map"], given["t"], steps=3, prior=prior[0] if prior else None
    )
np.savez(sys.argv[3], **found)
assert not {"flax", "rcodec_jax"} & set(sys.modules), "not alone"
"""


def small_diffusion() -> Trained:
    """What Stable Diffusion has and nano has not: group norms, attention, no prior, v."""
    unet = UNetConfig(
        channels=(16,), layers=1, heads=(2,), middle_heads=4, context_features=16,
        context_tokens=5, time_features=32, norm="group", groups=8, scale_shift=False,
        prediction="v", prior=False,
    )  # fmt: skip
    auto = AutoencoderConfig(
        channels=(8, 16), patch=4, norm="group", groups=4, attention=True, quant_conv=True
    )
    hyper = HyperConfig(hyper_channels=4, analysis=8, synthesis=(8, 8, 8))
    config = dataclasses.replace(stable_diffusion(unet), hyper=hyper, autoencoder=auto)
    return random_model(config, np.float32)


def random_model(config: ModelConfig, dtype: type) -> Trained:
    """A model of that shape whose activations stay in range."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in parameter_shapes(config).items():
        size = np.float32(max(np.prod(shape[:-1]), 8))
        tensors[name] = (rng.standard_normal(shape, np.float32) / np.sqrt(size)).astype(dtype)
    shift = np.full(4, 0.1, np.float32)
    return Trained(config, unflatten(tensors), shift, 30.0, None, {"name": "sd"})


def expected_of(model: Trained, sizes: tuple) -> tuple[dict, dict]:
    """Inputs of some sizes, and what our own networks make of them."""
    config = model.config
    networks = Networks(config)
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), model.params)
    shift, scale = (a.reshape(1, 1, 1, -1) for a in (model.shift, model.shift * 0 + model.power))
    scale = scale**-0.5
    network, decode = jax.jit(networks.denoise), jax.jit(networks.decode)

    @jax.jit
    def analyse(y, level_map, nodes):
        levels = LevelInputs.of(level_map, nodes)
        return jnp.floor(networks.hyper_encode(params, y, levels) + 0.5)

    given, expected = {}, {}
    rng = np.random.default_rng(1)
    for i, (batch, height, width) in enumerate(sizes):
        h, w = height * unit_cells(config), width * unit_cells(config)
        latent = (batch, h, w, config.latent_channels)
        nodes = np.sort(rng.integers(0, 1024, (batch, 16)), axis=1)
        case = {
            "image": rng.uniform(-1, 1, (batch, 8 * h, 8 * w, 3)).astype(np.float32),
            "y": rng.standard_normal(latent).astype(np.float32),
            "x": rng.standard_normal(latent).astype(np.float32),
            "nodes": nodes,
            "t": node_table("scaled_linear").t[nodes],
            "level_map": rng.integers(0, 16, latent[:3]),
        }
        if config.unet.prior:
            case["prior"] = rng.standard_normal((*latent[:3], 2 * latent[3])).astype(np.float32)
        prior = jnp.asarray(case["prior"]) if config.unet.prior else None
        level_map = jnp.asarray(case["level_map"], jnp.int32)

        def denoise(x, t, level_map=level_map, prior=prior):
            return network(params, x, jnp.asarray(t, jnp.float32), level_map, prior)

        clean = ddim(
            denoise, jnp.asarray(case["x"]), level_map, case["t"], steps=3,
            prediction=config.unet.prediction, schedule=config.noise_schedule, prior=prior,
        )  # fmt: skip
        results = {
            "y": (jax.jit(networks.encode)(params, case["image"])[0] - shift) * scale,
            "z": analyse(10 * case["y"], level_map, nodes),
            "output": denoise(jnp.asarray(case["x"]), case["t"]),
            "image": decode(params, jnp.asarray(case["y"] / scale + shift)),
            "decoded": decode(params, clean / scale + shift),
        }
        given |= {f"{i}_{k}": v for k, v in case.items()}
        expected |= {f"{i}{k}": np.asarray(v) for k, v in results.items()}
    return given, expected


def symbols_of(path: Path, bundle: Bundle) -> tuple[dict, dict]:
    """What a file of the nano model says, and what our own decoder makes of it."""
    container, levels, symbols = read_symbols(path.read_bytes(), bundle.integers)
    size = container.header.height_px, container.header.width_px
    given = {"z": symbols.z, "j": symbols.j, "nodes": levels.nodes, "level_map": levels.level_map}
    table = node_table(bundle.config.noise_schedule)
    x, prior = dequantise(symbols, levels, table)
    expected = {"x": x, "prior": prior, "levels_t": table.t[levels.padded_nodes]}
    expected["dither"] = dither_values(dither_indices(*symbols.j.shape)).astype(np.float32)
    expected["picture"] = Codec(bundle).decode(path.read_bytes())
    return given | {"size": size}, expected


def run_alone(folder: Path, work: Path, given: dict) -> dict:
    """Calls the programs in a process that has the folder's loader and the libraries, no more."""
    np.savez(work / "given.npz", **given)
    (work / "run.py").write_text(ALONE + RUNNER)
    for name in ("programs", "symbols"):
        shutil.copyfile(SOURCES[name], work / f"rcodec_{name}.py")
    words = [sys.executable, "run.py", str(folder), "given.npz", "found.npz"]
    done = subprocess.run(words, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(work / "found.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> Path:
    """The nano bundle as programs."""
    folder = tmp_path_factory.mktemp("nano") / "programs"
    export_stablehlo(load_trained(NANO, entropy=False), folder, source=NANO)
    return folder


@pytest.mark.parametrize(
    "which",
    [
        "nano",
        pytest.param("stable diffusion", marks=pytest.mark.slow),
        pytest.param("full size", marks=pytest.mark.large),
    ],
)
def test_programs_give_our_outputs_alone(which: str, request, tmp_path) -> None:
    if which == "nano":
        model, folder = load_trained(NANO, entropy=False), request.getfixturevalue("nano")
    else:
        model, folder = small_diffusion(), tmp_path / "programs"
        if which == "full size":  # 12 GB of memory
            model = random_model(stable_diffusion(SD21_UNET), np.float16)
        export_stablehlo(model, folder)
    sizes = {"nano": SIZES, "stable diffusion": SIZES[:1], "full size": ((1, 1, 1),)}
    given, expected = expected_of(model, sizes[which])
    if which == "nano":
        said, ours = symbols_of(NANO.parent / "odd_box.rdc", load_bundle(NANO))
        given |= {f"8_{name}": value for name, value in said.items()}
    found = run_alone(folder, tmp_path, given)
    if which == "nano":
        for name in ("x", "prior", "levels_t", "dither"):  # bit by bit
            assert np.array_equal(found[f"8{name}"], ours[name]), name
            del found[f"8{name}"]
        difference = np.abs(found.pop("8picture").astype(int) - ours["picture"])
        assert difference.max() <= 1 and difference.mean() < 0.001
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert np.linalg.norm(found[name] - value) <= 1e-5 * np.linalg.norm(value), name


@pytest.mark.filterwarnings("ignore:the file was made with networks")
def test_a_decoder_with_hints_gives_our_picture_alone(with_hints, tmp_path) -> None:
    folder, bundle = tmp_path / "bundle", with_hints(load_bundle(NANO))
    parts = bundle.params, bundle.shift, bundle.scale
    save_bundle(folder, bundle.config, bundle.integers, *parts, card={})
    export_stablehlo(load_trained(folder, entropy=False), tmp_path / "programs", source=folder)
    said, ours = symbols_of(NANO.parent / "odd_box.rdc", load_bundle(folder))
    given = {f"8_{name}": value for name, value in said.items()}
    found = run_alone(tmp_path / "programs", tmp_path, given)
    difference = np.abs(found["8picture"].astype(int) - ours["picture"])
    assert difference.max() <= 1 and difference.mean() < 0.001


@pytest.mark.parametrize("name", ["varying", "halves", "centroids", "skipping"])
def test_priors_are_ours_bit_by_bit(name: str, nano, tmp_path) -> None:
    """Of models whose prior varies, with and without context network."""
    golden = NANO.parent / name
    blob = lzma.decompress((golden / "integer.safetensors.xz").read_bytes())
    part = IntegerPart.from_bytes(blob)
    shutil.copy(nano / "nodes.safetensors", tmp_path)
    (tmp_path / "integer.safetensors").write_bytes(blob)
    about = {"bundle": {"integer_digest": part.digest.hex()}}
    (tmp_path / "manifest.json").write_text(json.dumps(about))
    given = symbols_alone.Dequantiser(tmp_path)
    for path in sorted(golden.glob("[!l]*.rdc")):  # lanes are long, and no matter here
        _, levels, symbols = read_symbols(path.read_bytes(), part)
        start = given(symbols.z, symbols.j, levels.nodes, levels.level_map)
        for found, expected in zip(
            start, dequantise(symbols, levels, node_table("scaled_linear")), strict=False
        ):
            assert np.array_equal(found, expected), path
            assert found.dtype == expected.dtype
    with pytest.raises(ValueError, match=r"z: expected .* got"):
        given(symbols.z[1:], symbols.j, levels.nodes, levels.level_map)
    (tmp_path / "integer.safetensors").write_bytes(blob[:-1])
    with pytest.raises(ValueError, match=r"integer\.safetensors: expected digest"):
        symbols_alone.Dequantiser(tmp_path)


def test_manifest_says_what_there_is(nano) -> None:
    manifest = json.loads((nano / "manifest.json").read_text())
    bundle = load_bundle(NANO)
    assert manifest["bundle"] == {
        "integer_digest": bundle.integers.digest.hex(),
        "float_digest": bundle.float_digest.hex(),
    }
    weights = load_file(nano / "weights.safetensors")
    data = (nano / "weights.safetensors").read_bytes()
    assert manifest["weights"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert {n for p in manifest["programs"].values() for n in p["weights"]} == set(weights)
    for entry in manifest["programs"].values():
        data = (nano / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        exported = jax.export.deserialize(bytearray(data))
        assert exported.platforms == ("cpu", "cuda", "tpu")
        # Arguments are the weights in the manifest's order, then the inputs.
        given = list(entry["weights"].values()) + [port["dtype"] for port in entry["inputs"]]
        assert [str(aval.dtype) for aval in exported.in_avals] == given
        for aval, name in zip(exported.in_avals, entry["weights"], strict=False):
            assert aval.shape == weights[name].shape
        assert "cudnn" not in exported.mlir_module().lower()
    assert sorted(path.name for path in nano.iterdir()) == sorted(
        ["manifest.json", "rcodec_programs.py", "weights.safetensors"]
        + ["integer.safetensors", "nodes.safetensors", "rcodec_symbols.py"]
        + [entry["file"] for entry in manifest["programs"].values()]
    )


def test_weights_are_not_in_the_programs(nano) -> None:
    """The same programs serve any weights of the shape, and hold none."""
    model = load_trained(NANO, entropy=False)
    kernel = np.asarray(model.params["unet"]["conv_in"]["conv"]["kernel"])
    for path in nano.glob("*.jax_export"):
        data = path.read_bytes()
        for dtype in (np.float32, np.float16):
            assert kernel.astype(dtype).tobytes()[:64] not in data


def test_changed_programs_and_other_folders_are_refused(nano, tmp_path) -> None:
    folder = Path(shutil.copytree(nano, tmp_path / "copy"))
    path = folder / "decoder.jax_export"
    path.write_bytes(path.read_bytes()[:-1])
    code = "import rcodec_programs as r; r.ExportedModel('.').call('decoder', 0)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert "not the one that the manifest describes" in done.stderr
    (folder / "manifest.json").write_text("{}")
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert "expected rcodec programs of version 0" in done.stderr


def test_weights_of_another_export_are_refused(nano, tmp_path) -> None:
    folder = Path(shutil.copytree(nano, tmp_path / "copy"))
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path)
    with pytest.raises(ValueError, match=r"weights\.safetensors is not the one"):
        ExportedModel(folder).call("decoder", np.zeros((1, 8, 8, 4), np.float32))


def test_the_command_writes_it(tmp_path, capsys) -> None:
    words = ["export", str(NANO), "--format", "stablehlo", "--dtype", "bfloat16", "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert "step.jax_export" in figures["files"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    kinds = manifest["programs"]["decoder"]["weights"]
    assert {kinds.pop("latent/shift"), kinds.pop("latent/scale")} == {"float32"}
    assert set(kinds.values()) == {"bfloat16"}
    words[3] = "safetensors"
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "--dtype: only valid with --format stablehlo" in capsys.readouterr().err


def test_without_flatbuffers_one_line_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rcodec-jax\[export\]'"):
        export_stablehlo(small_diffusion(), tmp_path / "programs")
    assert not (tmp_path / "programs").exists()
