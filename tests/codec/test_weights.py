"""Folders of weights: bits kept, written whole or not at all, nothing believed that they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors

from rcodec_jax.config import to_dict
from rcodec_jax.errors import WeightsError
from rcodec_jax.model.networks import parameter_shapes, tracked_ranges
from rcodec_jax.model.trees import flatten
from rcodec_jax.model.weights import INDEX, MANIFEST, is_weights, open_weights
from rcodec_jax.model.weights_writer import WeightsWriter

KINDS = (np.float32, np.float16, ml_dtypes.bfloat16)
SHIFT = np.arange(4, dtype=np.float32)


@pytest.fixture(scope="module")
def arrays(bundle) -> dict[str, np.ndarray]:
    """Tensors for the nano model, every third in another dtype."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(bundle.config)
    return {
        name: rng.standard_normal(shape).astype(KINDS[i % 3])
        for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture
def write(bundle, arrays, tmp_path):
    def write(folder: Path = tmp_path / "weights", **kwargs) -> Path:
        kwargs = {"shift": SHIFT, "power": 2.0} | kwargs
        with WeightsWriter(folder, bundle.config, **kwargs) as writer:
            for name, array in arrays.items():
                writer.add(name, array)
        return folder

    return write


@pytest.mark.parametrize("shard_bytes", [2**31, 700_000])
def test_written_is_read_bit_by_bit(bundle, arrays, write, shard_bytes: int) -> None:
    ranges = {name: float(i) for i, name in enumerate(tracked_ranges(bundle.config))}
    about = {"ranges": ranges, "source": {"repo": "x"}, "card": {"name": "n"}}
    folder = write(shard_bytes=shard_bytes, **about)
    weights = open_weights(folder)
    assert weights.config == bundle.config and weights.power == 2.0 and is_weights(folder)
    np.testing.assert_array_equal(weights.shift, SHIFT)
    assert {key: getattr(weights, key) for key in about} == about
    assert set(weights.names) == set(arrays)
    flat = flatten(weights.params())
    for name, array in arrays.items():
        assert flat[name].dtype == array.dtype == weights.dtype(name)
        assert weights.shape(name) == array.shape
        np.testing.assert_array_equal(flat[name], array)
    shards = sorted(folder.glob("*.safetensors"))
    assert (len(shards) > 1) == (shard_bytes < 2**31)
    assert all(path.stat().st_size <= shard_bytes for path in shards)
    # Whoever has the ordinary library reads the same.
    for path in shards:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                if arrays[name].dtype != ml_dtypes.bfloat16:
                    np.testing.assert_array_equal(file.get_tensor(name), arrays[name])
    total = json.loads((folder / INDEX).read_text())["metadata"]["total_size"]
    assert total == sum(array.nbytes for array in arrays.values())


def test_an_error_leaves_what_was_there(bundle, arrays, write) -> None:
    folder = write()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    name, array = next(iter(arrays.items()))
    with (
        pytest.raises(KeyboardInterrupt),
        WeightsWriter(folder, bundle.config, shift=SHIFT, power=1.0) as writer,
    ):
        writer.add(name, array)
        raise KeyboardInterrupt
    with (
        pytest.raises(WeightsError, match="tensors of the model are missing"),
        WeightsWriter(folder, bundle.config, shift=SHIFT, power=1.0) as writer,
    ):
        writer.add(name, array)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write(shard_bytes=700_000)  # replaces, with more files
    write()
    assert len(list(folder.iterdir())) == len(before)


def test_what_the_model_does_not_have_is_refused(bundle, arrays, tmp_path) -> None:
    name, array = next(iter(arrays.items()))
    for wrong, value, match in (
        ("unet/surprise", array, "the model has none"),
        (name, array[..., :1], "expected shape"),
        (name, array.astype(np.float64), "float64"),
        (name, array.astype(">f4"), ">f4"),
    ):
        with (
            pytest.raises(ValueError, match=match),
            WeightsWriter(tmp_path, bundle.config, shift=SHIFT, power=1.0) as writer,
        ):
            writer.add(wrong, value)
    with (
        pytest.raises(WeightsError, match="written twice"),
        WeightsWriter(tmp_path, bundle.config, shift=SHIFT, power=1.0) as writer,
    ):
        writer.add(name, array)
        writer.add(name, array)
    names = tracked_ranges(bundle.config)
    for statistics in (
        {"shift": SHIFT[:3], "power": 1.0},
        {"shift": SHIFT, "power": 0.0},
        {"shift": SHIFT, "power": float("nan")},
        {"shift": SHIFT, "power": 1.0, "ranges": {"conv_0_out": 1.0}},
        {"shift": SHIFT, "power": 1.0, "ranges": dict.fromkeys(names, -1.0)},
    ):
        with pytest.raises(WeightsError):
            WeightsWriter(tmp_path, bundle.config, **statistics)
    assert not list(tmp_path.iterdir())
    with pytest.raises(WeightsError, match="weights.json"):
        open_weights(tmp_path)
    with pytest.raises(WeightsError, match="expected a folder"):
        open_weights(tmp_path / "nothing")


def damage(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("target", ["../secret.safetensors", "/etc/passwd", "model.bin", "", 5])
def test_an_index_cannot_lead_out_of_the_folder(write, target) -> None:
    folder = write()
    (folder.parent / "secret.safetensors").write_bytes(
        next(folder.glob("*.safetensors")).read_bytes()
    )
    damage(folder / INDEX, lambda index: index["weight_map"].update(dict.fromkeys(
        index["weight_map"], target
    )))  # fmt: skip
    with pytest.raises(WeightsError, match="expected files model-NNNNN"):
        open_weights(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights_version", 1), ("model", []), ("model", {"surprise": 1}), ("latent", None),
        ("latent", {"shift": [0] * 4}), ("latent", {"shift": [0] * 5, "power": 1}),
        ("latent", {"shift": "abcd", "power": 1}), ("latent", {"shift": [0] * 4, "power": "x"}),
        ("latent", {"shift": [0] * 4, "power": 10**400}), ("model", {"unet": {"channels": []}}),
        ("ranges", []), ("ranges", {"conv_0_out": 1}), ("card", 5), ("source", None),
    ],
)  # fmt: skip
def test_a_changed_description_is_refused(write, key: str, value: object) -> None:
    folder = write()
    damage(folder / MANIFEST, lambda manifest: manifest.update({key: value}))
    with pytest.raises(WeightsError):
        open_weights(folder)


def test_tensors_of_another_model_are_named(bundle, write) -> None:
    folder = write()
    wider = dataclasses.replace(bundle.config.unet, time_features=32)
    damage(folder / MANIFEST, lambda manifest: manifest["model"].update(unet=to_dict(wider)))
    with pytest.raises(WeightsError, match=r"tensor unet/.*expected shape .*32.*got"):
        open_weights(folder)


def test_damaged_files_are_refused(write) -> None:
    folder = write()
    shard = next(folder.glob("*.safetensors"))
    for path in (shard, folder / INDEX, folder / MANIFEST):
        data = path.read_bytes()
        for cut in (b"", data[:5], data[: len(data) // 2], b"[" * 100_000, b"[1]"):
            path.write_bytes(cut)
            with pytest.raises(WeightsError, match=path.name):
                open_weights(folder)
        path.write_bytes(data)
    data = bytearray(shard.read_bytes())
    for place in (0, 3, 9, 20, 60, 100):
        changed = bytes([*data[:place], data[place] ^ 0x10, *data[place + 1 :]])
        shard.write_bytes(changed)
        with pytest.raises(WeightsError):
            open_weights(folder)
    shard.write_bytes(data)
    weights = open_weights(folder)
    shard.write_bytes(data[:-10])
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.params()
