"""What users hand in by mistake ends in one clear line; codecs go to other processes."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest

import rcodec_jax
from rcodec_jax.codec import checks
from rcodec_jax.errors import BitstreamError, DigestError, UsageError

GREY = np.full((24, 40, 3), 128, np.uint8)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"quality": "50"}, "expected a quality in 0..100, got '50'"),
        ({"quality": True}, "expected a quality in 0..100, got True"),
        ({"quality": float("nan")}, "expected a quality in 0..100, got nan"),
        ({"quality": 1 + 2j}, "expected a quality in 0..100, got (1+2j)"),
        ({"bpp": "0.2"}, "expected a budget above 0 as bpp, got '0.2'"),
        ({"size_bytes": [900]}, "expected a budget above 0 as size_bytes, got [900]"),
        ({"roi_strength": None}, "expected a strength in 0..1, got None"),
        ({"roi_strength": "1"}, "expected a strength in 0..1, got '1'"),
        ({"effort": "3"}, "expected an effort in 1..9, got '3'"),
        ({"effort": 2.0}, "expected an effort in 1..9, got 2.0"),
        ({"importance": np.full((24, 40), "a")}, "expected importance as numbers in 0..1, got <U1"),
    ],
)
def test_encode_names_wrong_types(codec, options, message) -> None:
    with pytest.raises(UsageError) as caught:
        codec.encode(GREY, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 2.0}, "expected 1..50 steps (a whole number), got 2.0"),
        ({"steps": "2"}, "expected 1..50 steps (a whole number), got '2'"),
        ({"steps": True}, "expected 1..50 steps (a whole number), got True"),
        ({"steps": 0}, "expected 1..50 steps, got 0"),
        ({"realism": "1"}, "expected a realism in 0..1, got '1'"),
        ({"trajectory": 3}, "expected trajectory proportional or synchronous, got 3"),
        ({"limits": 2**20}, "expected limits as Limits or None, got int"),
    ],
)
def test_decode_names_wrong_types(codec, golden, options, message) -> None:
    data = (golden.HERE / "odd_box.rdc").read_bytes()
    with pytest.raises(UsageError) as caught:
        codec.decode(data, **options)
    assert str(caught.value) == message


def test_numbers_of_numpy_are_numbers(codec) -> None:
    data = codec.encode(
        GREY, quality=np.float32(20), roi_strength=np.float64(1), effort=np.int64(1)
    )
    assert data == codec.encode(GREY, quality=20, roi_strength=1, effort=1)
    np.testing.assert_array_equal(
        codec.decode(data, steps=np.int32(1)), codec.decode(data, steps=1)
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_decode_takes_any_bytes(codec, golden, kind) -> None:
    data = (golden.HERE / "line.rdc").read_bytes()
    np.testing.assert_array_equal(codec.decode(kind(data)), codec.decode(data))


@pytest.mark.parametrize("data", [None, 5, ["a"], np.zeros(4, np.uint8)])
def test_decode_names_what_is_no_file(codec, data) -> None:
    with pytest.raises(UsageError, match=f"expected bytes or a path, got {type(data).__name__}"):
        codec.decode(data)


def test_importance_may_be_off_by_rounding(codec) -> None:
    importance = np.zeros((24, 40), np.float32)
    importance[:, :16] = 1
    off = importance * np.float32(1.0000001) - np.float32(1e-7)
    off[0, 0] = 1.0000001
    data = codec.encode(GREY, importance=off, effort=1)
    assert data == codec.encode(GREY, importance=importance, effort=1)
    for value, shown in (
        (1.00002, r"0\.\.1\.00002$"),
        (-0.001, r"-0\.001\.\.1$"),
        (np.nan, "nan"),
        (255, r"0\.\.255 \(divide a mask of 8 bits by 255\)$"),
    ):
        importance[0, 0] = value
        with pytest.raises(UsageError, match=f"expected importance values in 0..1, got .*{shown}"):
            codec.encode(GREY, importance=importance)


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
def test_a_codec_that_has_encoded_goes_to_another_process(codec, copied) -> None:
    data = codec.encode(GREY, quality=20, effort=1)
    other = copied(codec)
    assert "_compiled" not in vars(other) and "_refiner" not in vars(other)
    assert other.card == codec.card and other.dtype == codec.dtype
    assert other.encode(GREY, quality=20, effort=1) == data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_use_after_a_fork_is_refused_and_does_not_hang(codec, golden) -> None:
    data = (golden.HERE / "line.rdc").read_bytes()
    codec.decode(data)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"nothing was refused"
        try:
            codec.decode(data)
        except UsageError as error:
            told = str(error).encode()
        finally:
            os.write(writer, told)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read().decode()
    os.waitpid(child, 0)
    assert "forked" in told and "spawn" in told
    assert checks._process == os.getpid()


def test_a_file_of_another_model_names_the_way_out(codec, golden) -> None:
    data = (golden.HERE / "line.rdc").read_bytes()
    digest = codec.bundle.integers.digest
    assert digest in data
    container = data.replace(digest, bytes(8))
    with pytest.raises(BitstreamError):  # its checksum is wrong, too
        codec.decode(container)
    from rcodec_jax.bitstream import read_container

    with pytest.raises(DigestError, match=r"--model, or load\(FOLDER\) in Python"):
        read_container(data).header.require_model(bytes(8))


@pytest.mark.parametrize("model", [5, b"folder", ["a"]])
def test_load_names_what_is_no_folder(model) -> None:
    with pytest.raises(UsageError, match="expected the folder of a bundle or None, got"):
        rcodec_jax.load(model)
