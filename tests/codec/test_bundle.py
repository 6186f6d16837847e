"""Bundles: what is written is read, what is damaged is refused before it is used."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import BundleError, DigestError
from rcodec_jax.model.bundle import (
    FLOAT,
    INTEGER,
    MANIFEST,
    load_bundle,
    load_integers,
    save_bundle,
)
from rcodec_jax.model.trees import flatten, unflatten


@pytest.fixture
def copy(golden, tmp_path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(golden.BUNDLE, tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    """Changes keys of the manifest; `model__steps` is a key of the model."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        (manifest[group] if group else manifest)[name] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_written_is_read(bundle, golden, tmp_path) -> None:
    parts = (bundle.config, bundle.integers, bundle.params, bundle.shift, bundle.scale)
    save_bundle(tmp_path, *parts, {"name": "copy"})
    again = load_bundle(tmp_path)
    assert again.config == bundle.config and again.card == {"name": "copy"}
    assert again.integers.digest == bundle.integers.digest
    # The digest of the floats also names the configuration, which gains fields over time.
    assert (tmp_path / FLOAT).read_bytes() == (golden.BUNDLE / FLOAT).read_bytes()
    assert again.float_digest == load_bundle(tmp_path).float_digest
    flat, expected = flatten(again.params), flatten(bundle.params)
    assert flat.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(flat[name], value)  # halves already: nothing is lost
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, FLOAT, INTEGER]
    card = Codec(again).card
    assert card["name"] == "copy" and card["integer_digest"] == bundle.integers.digest.hex()
    assert repr(Codec(again)) == (
        f"<rcodec model copy, {card['integer_digest']}/{card['float_digest']}>"
    )


def test_flatten_is_undone() -> None:
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert unflatten(flatten(tree)) == tree


@pytest.mark.parametrize("name", [MANIFEST, INTEGER, FLOAT])
def test_a_missing_or_cut_file_is_named(copy, name: str) -> None:
    path = copy / name
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:7], b"", data + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            load_bundle(copy)
    path.unlink()
    # A folder without the first of its files is none of a bundle's, and is told what one is.
    missing = "with its bundle.json" if name == "bundle.json" else f"{name}: cannot be read"
    with pytest.raises(BundleError, match=missing):
        load_bundle(copy)


@pytest.mark.parametrize("name", [INTEGER, FLOAT])
def test_any_changed_byte_is_noticed(copy, name: str) -> None:
    path = copy / name
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, 9, 100, *rng.integers(0, len(data), 12).tolist(), len(data) - 1]:
        changed = bytes([data[place] ^ 1 << int(rng.integers(8))])
        path.write_bytes(data[:place] + changed + data[place + 1 :])
        with pytest.raises(BundleError):
            load_bundle(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle_version": 1},
        {"bundle_version": None},
        {"integer_digest": "00" * 8},
        {"integer_digest": 5},
        {"float_digest": "zz"},
        {"model": []},
        {"model__latent_channels": 5},
        {"model__latent_channels": "many"},
        {"model__steps": 4},
        {"model__node_range": [0, 1023]},
        {"model__surprise": 1},
        {"card": [1, 2]},
    ],
    ids=str,
)
def test_a_changed_manifest_is_refused(copy, changes) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError):
        load_bundle(copy)


def test_what_is_no_bundle(tmp_path) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BundleError, match=f"with its {MANIFEST}, got '.*'$"):
            load_bundle(folder)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(BundleError, match="'rcodec freeze' makes a bundle of it"):
        load_bundle(tmp_path / "run")
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(BundleError, match="expected an object"):
        load_bundle(tmp_path)


def test_floats_that_no_half_can_hold_are_refused(bundle, tmp_path) -> None:
    for value in (1e6, np.nan):
        params = unflatten(dict(flatten(bundle.params)))
        params["encoder"]["conv_in"]["conv"]["bias"] = np.full(8, value, np.float32)
        with pytest.raises(BundleError, match="encoder/conv_in/conv/bias: not finite in half"):
            save_bundle(
                tmp_path, bundle.config, bundle.integers, params, bundle.shift, bundle.scale, {}
            )
    assert not (tmp_path / MANIFEST).exists()


def test_a_tensor_that_is_a_group_too_is_refused(bundle, tmp_path) -> None:
    encoder = bundle.params["encoder"] | {"conv_in/conv": np.zeros(1, np.float16)}
    params = bundle.params | {"encoder": encoder}
    save_bundle(tmp_path, bundle.config, bundle.integers, params, bundle.shift, bundle.scale, {})
    with pytest.raises(BundleError, match="encoder/conv_in/conv is a tensor, and so is encoder/"):
        load_bundle(tmp_path)


def test_a_file_of_another_model_names_both(codec, golden) -> None:
    data = (golden.HERE / "pixel.rdc").read_bytes()
    other = dataclasses.replace(codec.bundle.integers, _stored_digest=b"another!")
    stranger = Codec(dataclasses.replace(codec.bundle, integers=other))
    with pytest.raises(DigestError) as error:
        stranger.decode(data)
    assert codec.bundle.integers.digest.hex() in str(error.value)
    assert b"another!".hex() in str(error.value)
    assert load_integers(golden.BUNDLE).digest == codec.bundle.integers.digest


def test_other_float_networks_are_a_warning(codec, golden) -> None:
    """The symbols are right, the picture may not be what its maker saw."""
    data = (golden.HERE / "pixel.rdc").read_bytes()
    expected = codec.decode(data)
    other = Codec(dataclasses.replace(codec.bundle, float_digest=b"\1\2\3\4"))
    other.__dict__["_programs"] = codec._programs  # the same networks under another name
    with pytest.warns(UserWarning, match="01020304: the picture may differ"):
        found = other.decode(data)
    np.testing.assert_array_equal(found, expected)
