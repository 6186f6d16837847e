"""Damaged integer parts: a BundleError, or another part with another digest, within bounds."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from rcodec_jax.entropy import IntegerPart
from rcodec_jax.entropy.integer.tensorfile import load_tensors, save_tensors
from rcodec_jax.errors import BundleError


@pytest.fixture(scope="module")
def blob(fuzz) -> bytes:
    return fuzz.PART.read_bytes()


def test_damaged_parts(fuzz) -> None:
    outcomes = fuzz.run(400, seed=2, parts=True, measure_every=4)
    assert set(outcomes) == {"BundleError", "part"}
    assert outcomes["BundleError"] > 200


@pytest.mark.parametrize(
    "name,kind,value",
    [
        # in 64 bits the sums that are checked would overflow to something harmless
        ("gaussian.minimum", np.int64, 2**63 - 1),
        ("hyper.minimum", np.int64, 2**63 - 1),
        ("gaussian.freq", np.int64, 2**62),
        ("hyper.freq", np.int64, 2**62),
        ("hyper.count", np.int64, 2**62),
    ],
)
def test_wider_tables_than_the_format_has(blob, name, kind, value) -> None:
    tensors, metadata = load_tensors(blob)
    wide = np.array(tensors[name], kind)
    wide.flat[:4] = value
    with pytest.raises(BundleError, match=name):
        IntegerPart.from_bytes(save_tensors({**tensors, name: wide}, metadata))


def with_header(blob: bytes, change) -> bytes:
    length = int.from_bytes(blob[:8], "little")
    entries = json.loads(blob[8 : 8 + length])
    change(entries)
    header = json.dumps(entries).encode("ascii")
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]


def test_tensors_may_not_share_bytes(blob) -> None:
    """Two arrays in one place and none in another still add up to the size of the file."""
    tensors, metadata = load_tensors(blob)
    tensors = {**tensors, "a": np.zeros(4, np.uint8), "b": np.zeros(4, np.uint8)}

    def change(entries: dict) -> None:
        entries["a"]["data_offsets"] = entries["b"]["data_offsets"]

    with pytest.raises(BundleError, match="share|fill"):
        load_tensors(with_header(save_tensors(tensors, metadata), change))


@pytest.mark.parametrize(
    "shape",
    [[0], [0, 2**40], [0] + [2**15] * 7, [1] * 40, [2**62, 2**62], [-1, -8], [True], [math.inf]],
)
def test_strange_shapes(blob, shape) -> None:
    def change(entries: dict) -> None:
        entries["node_class"]["shape"] = shape

    with pytest.raises(BundleError):
        IntegerPart.from_bytes(with_header(blob, change))

    def empty(entries: dict) -> None:
        entries["none"] = {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]}

    with pytest.raises(BundleError):
        IntegerPart.from_bytes(with_header(blob, empty))


def test_what_could_execute_is_not_read(fuzz, blob) -> None:
    """A pickle in place of the part, or inside its metadata, stays bytes."""

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    trap = pickle.dumps(Trap())
    for hostile in (trap, len(trap).to_bytes(8, "little") + trap):
        with pytest.raises(BundleError):
            IntegerPart.from_bytes(hostile)

    def change(entries: dict) -> None:
        entries["__metadata__"]["__reduce__"] = trap.hex()

    assert fuzz.read_part(with_header(blob, change), IntegerPart.from_bytes(blob)) == "part"
