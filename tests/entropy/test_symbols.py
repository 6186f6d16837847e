"""Symbols: any picture of integers comes back exactly, in the length the tables promise."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import (
    IntegerPart,
    LevelContext,
    Limits,
    decode_symbols,
    dither_indices,
    dither_values,
    encode_symbols,
    sigma_of_level,
)
from rcodec_jax.errors import BitstreamError, CorruptPayloadError, LimitError, RcodecError

Scene = tuple[np.ndarray, np.ndarray, LevelContext]


def make_scene(part: IntegerPart, h: int, w: int, count: int, seed: int) -> Scene:
    """z, j and levels; j drawn as the prior says."""
    rng = np.random.default_rng(seed)
    z = rng.integers(-3, 4, (*part.hyper_size(h, w), part.hyper_channels)).astype(np.int32)
    nodes = np.sort(rng.integers(0, 1024, count)).astype(np.int32)
    levels = LevelContext(nodes, rng.integers(0, count, (h, w)).astype(np.uint8))
    prior = part.predict(z, levels)
    sigma = sigma_of_level(part.sigma_index(prior, levels))
    g = dither_values(dither_indices(*sigma.shape))
    j = np.floor(rng.normal(size=sigma.shape) * sigma + g + 0.5).astype(np.int32)
    return z, j, levels


def check(part: IntegerPart, scene: Scene) -> bytes:
    z, j, levels = scene
    payload = encode_symbols(part, z, j, levels)
    back = decode_symbols(part, payload, *levels.level_map.shape, levels)
    assert np.array_equal(back.z, z) and np.array_equal(back.j, j)
    assert back.z.dtype == np.int32 and back.j.dtype == np.int16
    prior = part.predict(z, levels)
    assert np.array_equal(back.prior.mean, prior.mean)
    assert np.array_equal(back.prior.log2_sigma, prior.log2_sigma)
    bits_z, bits_y = part.bits(z, j, levels)
    assert bits_z.shape == z.shape and bits_y.shape == j.shape
    ideal = (bits_z.sum() + bits_y.sum()) / 8
    assert ideal - 1 <= len(payload) <= ideal * 1.001 + 8
    assert encode_symbols(part, z, j, levels, prior) == payload
    return payload


@pytest.mark.parametrize(
    "h,w,levels",
    [(1, 1, 1), (1, 1, 16), (1, 9, 2), (13, 1, 3), (4, 4, 1), (5, 7, 16), (33, 70, 4)],
)
def test_round_trip_in_ideal_length(part: IntegerPart, h: int, w: int, levels: int) -> None:
    check(part, make_scene(part, h, w, levels, seed=h * 1000 + w))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 16), st.integers(0, 10**6))
def test_any_size_and_map(part: IntegerPart, h: int, w: int, levels: int, seed: int) -> None:
    check(part, make_scene(part, h, w, levels, seed))


def test_all_equal_symbols(part: IntegerPart) -> None:
    z, j, levels = make_scene(part, 20, 20, 2, seed=1)
    for value in (0, 1, -7, 32767, -32767):
        check(part, (np.zeros_like(z), np.full_like(j, value), levels))
        check(part, (np.full_like(z, value), j, levels))


@pytest.mark.parametrize("skip", [1000, 30_000, 65_535])
@pytest.mark.parametrize("lanes", [None, 0, 16])
def test_what_is_not_coded_is_zero_and_free(
    part: IntegerPart, skip: int, lanes: int | None
) -> None:
    """In one stream and in lanes, up to a picture with no symbol at all."""
    z, j, levels = make_scene(part, 64, 72, 3, seed=6)
    skipping = dataclasses.replace(part, skip=skip)
    index = part.sigma_index(part.predict(z, levels), levels)
    dither = dither_indices(*j.shape)
    # What decides is the probability of 0 in the tables, a word of 2^16 at a time.
    zero = 2.0 ** -part.gaussian.bits(index, dither, np.zeros_like(j))
    coded = skipping.coded(index, dither)
    assert np.array_equal(coded, np.rint((1 - zero) * 65536) >= skip)
    assert coded.mean() < 0.95 and coded.any() == (skip < 65_535)
    with pytest.raises(RcodecError, match="expected 0 where"):
        encode_symbols(skipping, z, np.where(coded, j, 1), levels)
    j = np.where(coded, j, 0)
    large = 10**9 if lanes is None else 1
    payload = encode_symbols(skipping, z, j, levels, lanes=lanes, lanes_from=large)
    back = decode_symbols(skipping, payload, *coded.shape[:2], levels, lanes_from=large)
    assert np.array_equal(back.j, j) and np.array_equal(back.z, z)
    bits_z, bits_y = skipping.bits(z, j, levels)
    assert not np.any(bits_y[~coded])
    assert len(payload) <= (bits_z.sum() + bits_y.sum()) / 8 * 1.01 + 24


def test_outliers(part: IntegerPart) -> None:
    z, j, levels = make_scene(part, 16, 24, 5, seed=2)
    rng = np.random.default_rng(3)
    where = rng.random(j.shape) < 0.05
    j = np.where(where, rng.integers(-32767, 32768, j.shape), j).astype(np.int32)
    check(part, (z, j, levels))
    check(part, (rng.integers(-32767, 32768, z.shape), j, levels))


@pytest.mark.parametrize("bad", [2**15, -(2**15), 2**20])
def test_symbols_out_of_range_fail_the_encoder(part: IntegerPart, bad: int) -> None:
    z, j, levels = make_scene(part, 4, 4, 2, seed=4)
    for array in (z, j):
        kept = array.flat[1]
        array.flat[1] = bad
        with pytest.raises(RcodecError, match="32767"):
            encode_symbols(part, z, j, levels)
        array.flat[1] = kept


def test_wrong_shapes_and_types_are_named(part: IntegerPart) -> None:
    z, j, levels = make_scene(part, 4, 8, 2, seed=5)
    for bad_z, bad_j in ((z[:, :1], j), (z, j[:-1]), (z, j.astype(float)), (z + 0.5, j)):
        with pytest.raises(RcodecError):
            encode_symbols(part, bad_z, bad_j, levels)
    payload = encode_symbols(part, z, j, levels)
    with pytest.raises(RcodecError, match="expected"):
        decode_symbols(part, payload, 8, 4, levels)


def test_sizes_are_checked_first(part: IntegerPart) -> None:
    levels = LevelContext(np.array([0]), np.zeros((1, 1), np.uint8))
    for h, w in ((0, 1), (-3, 5), (2**40, 2**40), (1, 8193), (2100, 2100)):
        with pytest.raises(LimitError):
            decode_symbols(part, b"", h, w, levels)
    with pytest.raises(LimitError):
        decode_symbols(part, bytes(11), 1, 1, levels, limits=Limits(max_payload_bytes=10))


def test_a_large_picture_without_a_payload_ends_at_once(part: IntegerPart) -> None:
    levels = LevelContext(np.array([0]), np.zeros((500, 500), np.uint8))
    for payload in (b"", b"\xff" * 20, b"\0" * 20):
        with pytest.raises(CorruptPayloadError):
            decode_symbols(part, payload, 500, 500, levels)


@given(data=st.data())
def test_damaged_payloads_fail_or_are_canonical(part: IntegerPart, data: st.DataObject) -> None:
    """Below the checksum: whatever still decodes is what the encoder would have written."""
    z, j, levels = make_scene(part, 6, 10, 3, seed=data.draw(st.integers(0, 3)))
    payload = bytearray(encode_symbols(part, z, j, levels))
    kind = data.draw(st.sampled_from(["flip", "cut", "add", "noise"]))
    if kind == "flip":
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del payload[data.draw(st.integers(0, len(payload) - 1)) :]
    elif kind == "add":
        payload += data.draw(st.binary(min_size=1, max_size=9))
    else:
        payload = bytearray(data.draw(st.binary(max_size=len(payload))))
    try:
        back = decode_symbols(part, bytes(payload), 6, 10, levels)
    except BitstreamError:
        return
    assert encode_symbols(part, back.z, back.j, levels) == payload


def test_no_jax_is_imported() -> None:
    code = (
        "import sys, rcodec_jax.entropy, rcodec_jax.bitstream\n"
        "assert not {'jax', 'flax', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
