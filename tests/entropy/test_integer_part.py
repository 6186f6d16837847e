"""The integer part as bytes: stable, complete, and safe to read from anyone."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import ContextModel, Conv, IntegerNetwork, IntegerPart, LevelContext
from rcodec_jax.entropy.integer.part import Prior
from rcodec_jax.entropy.integer.partfile import METADATA_KEY
from rcodec_jax.entropy.integer.tensorfile import load_tensors, save_tensors
from rcodec_jax.errors import BundleError, RcodecError


def test_round_trip_keeps_everything(part: IntegerPart) -> None:
    blob = part.to_bytes()
    again = IntegerPart.from_bytes(blob)
    assert again.to_bytes() == blob
    assert again.digest == part.digest == hashlib.sha256(blob).digest()[:8]
    assert again.gaussian.bank.cumulative == part.gaussian.bank.cumulative
    z = np.random.default_rng(0).integers(-5, 6, (2, 3, 2))
    levels = LevelContext(np.array([3, 700]), np.eye(8, 11, dtype=np.uint8))
    one, two = (p.predict(z, levels) for p in (part, again))
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.log2_sigma, two.log2_sigma)


def test_any_safetensors_reader_opens_it(part: IntegerPart) -> None:
    tensors = safetensors.numpy.load(part.to_bytes())
    assert np.array_equal(tensors["node_log2_s"], part.node_log2_s)
    assert tensors["layers.0.weight"].dtype == np.int16


def test_prediction_is_cropped_to_the_cells(part: IntegerPart) -> None:
    z = np.zeros((1, 2, 2), np.int32)
    prior = part.predict(z, LevelContext(np.array([10]), np.zeros((3, 5), np.uint8)))
    assert prior.mean.shape == prior.log2_sigma.shape == (3, 5, 3)
    assert prior.mean.dtype == np.int16
    assert isinstance(prior, Prior)


@pytest.mark.parametrize("change", [700, -700, 20_000, -20_000])
def test_sums_of_both_networks_keep_what_16_bits_do_not_hold(part: IntegerPart, change) -> None:
    """Each network ends within int16; that of the context is added, and nothing is clipped."""

    def constant(channels: int, value: int) -> Conv:
        return Conv(np.zeros((1, 1, channels, 6), np.int16), np.full(6, value), 0)

    before = int(np.sign(change)) * 30_000
    layers = *part.network.layers[:-1], constant(4, before)
    context = ContextModel(
        IntegerNetwork([constant(9, change)]), np.zeros(64, np.int32), np.ones(1024, np.int32)
    )
    part = dataclasses.replace(part, network=IntegerNetwork(layers), context=context)
    levels = LevelContext(np.array([10]), np.zeros((3, 5), np.uint8))
    prior = part.predict(np.zeros((1, 2, 2), np.int32), levels)
    refined = part.refine(prior, np.zeros((3, 5, 3), np.int16), levels)
    expected = np.where(part.halves(3, 5)[0], before, before + change)
    for array in (refined.mean, refined.log2_sigma):
        np.testing.assert_array_equal(array, expected)
    assert refined.log2_sigma.dtype == (np.int16 if abs(change) == 700 else np.int32)


def test_class_is_that_of_the_lowest_node(part: IntegerPart) -> None:
    level_map = np.ones((5, 9), np.uint8)
    level_map[4, 8] = 0  # repeated over the whole of the last z cell by edge replication
    classes = part.cell_classes(LevelContext(np.array([0, 1023]), level_map))
    assert classes.tolist() == [[3, 3, 3], [3, 3, 0]]


@pytest.mark.parametrize(
    "nodes,level_map",
    [
        ([0, 1], np.full((4, 4), 2, np.uint8)),
        ([5, 1], np.zeros((4, 4), np.uint8)),
        ([1024], np.zeros((4, 4), np.uint8)),
        ([-1], np.zeros((4, 4), np.uint8)),
        ([], np.zeros((4, 4), np.uint8)),
        ([0], np.zeros((4, 4), np.float32)),
        ([0], np.zeros((8, 4), np.uint8)),
    ],
)
def test_improper_inputs_are_named(part: IntegerPart, nodes, level_map) -> None:
    with pytest.raises(RcodecError, match="expected"):
        part.predict(np.zeros((1, 1, 2), np.int32), LevelContext(np.array(nodes, int), level_map))


def test_hyper_latents_past_the_proof_are_refused(part: IntegerPart) -> None:
    with pytest.raises(RcodecError):
        part.predict(
            np.full((1, 1, 2), 2**15), LevelContext(np.array([0]), np.zeros((4, 4), np.uint8))
        )


def edited(part: IntegerPart, change) -> bytes:
    tensors, metadata = load_tensors(part.to_bytes())
    tensors = {name: np.array(value) for name, value in tensors.items()}
    description = json.loads(metadata[METADATA_KEY])
    change(tensors, description)
    return save_tensors(tensors, {METADATA_KEY: json.dumps(description)})


def set_value(name: str, value: int):
    def change(tensors: dict, description: dict) -> None:
        tensors[name].flat[0] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda t, d: t.pop("node_class"),
        lambda t, d: t.update(extra=np.zeros(1, np.uint8)),
        lambda t, d: t.update(node_log2_s=np.zeros(1024, np.int64)),
        lambda t, d: t.update({"layers.0.weight": np.zeros((3, 3, 2, 4), np.int16)}),
        lambda t, d: t.update({"gaussian.freq": t["gaussian.freq"][:-1]}),
        lambda t, d: t.update({"hyper.minimum": t["hyper.minimum"].reshape(-1)}),
        lambda t, d: d.update(version=1),
        lambda t, d: d.update(latent_channels=4),
        lambda t, d: d.update(hyper_stride=2),
        lambda t, d: d.update(hyper_channels=True),
        lambda t, d: d.update(more=1),
        lambda t, d: d.update(sees=["node", "map"]),
        lambda t, d: d.update(sees="map"),
        lambda t, d: d.update(sees=[0]),
        lambda t, d: d.update(skip=0),
        lambda t, d: d.update(skip=65536),
        lambda t, d: d.update(skip=1.0),
        lambda t, d: d.update(layers=[]),
        lambda t, d: d["layers"][0].update(kind="relu"),
        lambda t, d: d["layers"][0].update(shift=1.5),
        lambda t, d: d["layers"][0].update(shift=-3),
        lambda t, d: d["layers"][1].update(stride=2),
        lambda t, d: d["layers"].append(7),
        set_value("node_class", 200),
        set_value("node_log2_s", 2**30),
        set_value("gaussian.freq", 0),
        set_value("gaussian.freq", 65535),
        set_value("gaussian.count", 9),
        set_value("hyper.count", 0),
        set_value("hyper.minimum", 32767),
        set_value("layers.0.bias", 2**53),
    ],
)
def test_inconsistent_parts_are_refused(part: IntegerPart, change) -> None:
    with pytest.raises(BundleError):
        IntegerPart.from_bytes(edited(part, change))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff" * 8,
        (5).to_bytes(8, "little") + b"[1,2]",
        (2).to_bytes(8, "little") + b"{}",
        (40000).to_bytes(8, "little") + b"[" * 40000,
        (60).to_bytes(8, "little")
        + b'{"a":{"dtype":"I64","shape":[99999999],"data_offsets":[0,8]}}'[:60],
    ],
)
def test_what_is_no_part_is_refused(blob: bytes) -> None:
    with pytest.raises(BundleError):
        IntegerPart.from_bytes(blob)


@given(data=st.data())
def test_damage_ends_in_an_error_or_another_digest(part: IntegerPart, data: st.DataObject) -> None:
    blob = bytearray(part.to_bytes())
    header = int.from_bytes(blob[:8], "little") + 8
    place = data.draw(st.integers(0, header - 1) | st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    try:
        damaged = IntegerPart.from_bytes(bytes(blob))
    except BundleError:
        return
    assert damaged.digest != part.digest


@given(st.integers(0, 10**6))
def test_truncation_is_an_error(part: IntegerPart, kept: int) -> None:
    blob = part.to_bytes()
    with pytest.raises(BundleError):
        IntegerPart.from_bytes(blob[: kept % len(blob)])
