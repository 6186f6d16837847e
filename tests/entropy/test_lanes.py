"""Lanes: lossless, within half a percent of the ideal, and damage never goes unseen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcodec_jax.entropy import (
    GaussianTables,
    IntegerPart,
    decode_symbols,
    dither_indices,
    dither_values,
    encode_symbols,
    sigma_of_level,
)
from rcodec_jax.entropy.lanepayload import decode_lanes, encode_lanes, plan_lanes
from rcodec_jax.entropy.lanes import LaneTables, lane_tables
from rcodec_jax.entropy.rangecoder import RangeDecoder, RangeEncoder
from rcodec_jax.entropy.tables import TableBank
from rcodec_jax.errors import BitstreamError, CorruptPayloadError, RcodecError

Scene = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_bank(rng: np.random.Generator) -> TableBank:
    """Tables from one listed value to hundreds, with escapes from rare to likely."""
    minimum, count, freq = [], [], []
    for _ in range(int(rng.integers(1, 12))):
        size = int(rng.choice([1, 2, 3, 7, 8, 9, 20, 300]))
        escape = int(rng.choice([1, 50, 30000]))
        share = rng.dirichlet(np.full(size, rng.choice([0.05, 1.0])))
        listed = 1 + np.floor(share * (65536 - escape - size)).astype(np.int64)
        freq.append(listed)
        count.append(size)
        minimum.append(int(rng.integers(-200, 100)))
    return TableBank(np.array(minimum), np.array(count), np.concatenate(freq))


def draw(rng: np.random.Generator, bank: TableBank, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables and values, mostly listed ones."""
    tables = rng.integers(0, bank.count.size, size).astype(np.int32)
    k = bank.minimum[tables] + np.floor(rng.random(size) * bank.count[tables]).astype(np.int64)
    far = rng.random(size) < 0.03
    k[far] = rng.integers(-32767, 32768, int(far.sum()))
    return tables, k.astype(np.int32)


@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2, 15, 16, 17, 300]), st.integers(1, 40))
@settings(max_examples=40)
def test_states_come_back(seed: int, size: int, lanes: int) -> None:
    """Any tables, any number of lanes, also more than symbols."""
    rng = np.random.default_rng(seed)
    bank = random_bank(rng)
    tables, k = draw(rng, bank, size)
    vector = LaneTables(bank)
    intervals, escapes = vector.intervals(tables, k)
    inside = (k >= bank.minimum[tables]) & (k < bank.minimum[tables] + bank.count[tables])
    assert np.array_equal(escapes, np.flatnonzero(~inside))
    last = (1 << 24) + rng.integers(0, 1 << 24, lanes).astype(np.uint64)
    states, data = vector.encode(intervals, last)
    assert states.min() >= 1 << 24 and states.max() < 1 << 40
    words = np.frombuffer(data, ">u2").astype(np.uint16)
    back, where, end, taken = vector.decode(tables, states, words)
    assert np.array_equal(back[inside], k[inside]) and np.array_equal(where, escapes)
    assert np.array_equal(end, last) and taken == words.size
    if words.size:
        with pytest.raises(CorruptPayloadError):
            vector.decode(tables, states, words[:-1])


def test_lanes_follow_the_plain_rules() -> None:
    """The vectorised coder against FORMAT.md's rules, symbol by symbol."""
    rng = np.random.default_rng(1)
    bank = random_bank(rng)
    tables, k = draw(rng, bank, 1000)
    vector = lane_tables(bank)
    intervals, _ = vector.intervals(tables, k)
    states, data = vector.encode(intervals, np.full(7, 1 << 24, np.uint64))
    words = np.frombuffer(data, ">u2").tolist()
    x = states.tolist()
    for q, number in enumerate(intervals.tolist()):
        start, freq = int(vector.start[number]), int(vector.freq[number])
        v = x[q % 7] % 65536
        assert start <= v < start + freq
        x[q % 7] = freq * (x[q % 7] >> 16) + v - start
        if x[q % 7] < 1 << 24:
            x[q % 7] = x[q % 7] << 16 | words.pop(0)
    assert x == [1 << 24] * 7 and not words


def gaussian_symbols(gaussian: GaussianTables, size: int) -> tuple[TableBank, np.ndarray, ...]:
    """Bank, tables and k as a picture at a low rate has them, by falling sigma index."""
    rng = np.random.default_rng(size)
    index = np.clip(np.sort(rng.normal(19, 7, size))[::-1], 0, 63).astype(np.uint8)
    dither = rng.integers(0, 64, size).astype(np.uint8)
    tables, signs = gaussian.select(index, dither)
    noise = rng.normal(size=size) * sigma_of_level(index)
    j = np.floor(noise + dither_values(dither) + 0.5).astype(np.int64)
    return gaussian.bank, tables.astype(np.int32), (j * signs).astype(np.int32)


@pytest.mark.parametrize("size", [300_000, 600_000])
def test_length_is_within_half_a_percent(gaussian: GaussianTables, size: int) -> None:
    bank, tables, k = gaussian_symbols(gaussian, size)
    ideal = float(bank.bits(tables, k).sum()) / 8
    assert ideal * 8 / size < 0.6  # a low rate: the hard case
    payload = encode_lanes(RangeEncoder(), bank, tables, k)
    assert payload[0] > 0
    assert ideal - 4 < len(payload) <= ideal * 1.005
    assert np.array_equal(decode_lanes(RangeDecoder(payload[1:]), payload, bank, tables), k)


def test_more_payload_takes_more_lanes_and_little_takes_none() -> None:
    plans = [plan_lanes(8 * size) for size in (0, 1000, 8000, 12_000, 10**5, 10**6, 10**9)]
    assert plans[:2] == [0, 0] and plans == sorted(plans)
    assert all(lanes % 16 == 0 and lanes <= 16 * 255 for lanes in plans)


@pytest.mark.parametrize("lanes,size", [(16, 1000), (48, 2500)])
def test_every_flipped_bit_and_every_cut_fails(
    gaussian: GaussianTables, lanes: int, size: int
) -> None:
    """Below the container's checksum, too."""
    bank, tables, k = gaussian_symbols(gaussian, size)
    k[[100, size // 2, size - 1]] = 1000, -32767, 32767
    payload = encode_lanes(RangeEncoder(), bank, tables, k, lanes)
    bits = 8 * len(payload)
    for bit in range(bits):
        damaged = bytearray(payload)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        if damaged[0] == 0:
            continue  # the caller would take the one-stream way
        with pytest.raises(BitstreamError) as caught:
            decode_lanes(RangeDecoder(bytes(damaged[1:])), bytes(damaged), bank, tables)
        assert caught.value.offset is not None
    for cut in range(1, len(payload), 3):
        with pytest.raises(BitstreamError):
            decode_lanes(RangeDecoder(payload[1:cut]), payload[:cut], bank, tables)
    for extra in (b"\0", b"\xff", bytes(9)):
        with pytest.raises(BitstreamError):
            decode_lanes(RangeDecoder(payload[1:] + extra), payload + extra, bank, tables)


def make_scene(part: IntegerPart, h: int, w: int, levels: int, seed: int) -> Scene:
    """z, j, nodes, level map; j drawn as the prior says, with a few escapes."""
    rng = np.random.default_rng(seed)
    z = rng.integers(-3, 4, (*part.hyper_size(h, w), part.hyper_channels)).astype(np.int32)
    nodes = np.sort(rng.integers(0, 1024, levels)).astype(np.int32)
    level_map = rng.integers(0, levels, (h, w)).astype(np.uint8)
    sigma = sigma_of_level(part.sigma_index(part.predict(z, nodes, level_map), nodes, level_map))
    g = dither_values(dither_indices(*sigma.shape))
    j = np.floor(rng.normal(size=sigma.shape) * sigma + g + 0.5).astype(np.int32)
    j[rng.random(j.shape) < 0.002] = 32767
    return z, j, nodes, level_map


@given(st.integers(8, 20), st.integers(8, 20), st.integers(1, 16), st.integers(0, 10**6))
@settings(max_examples=12)
def test_pictures_in_lanes(part: IntegerPart, h: int, w: int, levels: int, seed: int) -> None:
    z, j, nodes, level_map = make_scene(part, h, w, levels, seed)
    for lanes in (None, 0, 16):
        payload = encode_symbols(part, z, j, nodes, level_map, lanes=lanes, lanes_from=1)
        back = decode_symbols(part, payload, h, w, nodes, level_map, lanes_from=1)
        assert np.array_equal(back.z, z) and np.array_equal(back.j, j)
    assert encode_symbols(part, z, j, nodes, level_map, lanes=0, lanes_from=1) == (
        b"\0" + encode_symbols(part, z, j, nodes, level_map)
    )


def test_too_little_for_lanes_falls_back(part: IntegerPart) -> None:
    z, j, nodes, level_map = make_scene(part, 2, 2, 1, seed=3)
    payload = encode_symbols(part, z, np.zeros_like(j), nodes, level_map, lanes=512, lanes_from=1)
    assert payload[0] == 0
    back = decode_symbols(part, payload, 2, 2, nodes, level_map, lanes_from=1)
    assert not back.j.any()


def test_large_pictures_choose_lanes_by_themselves(part: IntegerPart) -> None:
    z, j, nodes, level_map = make_scene(part, 320, 320, 3, seed=4)  # 307,200 values
    payload = encode_symbols(part, z, j, nodes, level_map)
    assert payload[0] > 0
    bits_z, bits_y = part.bits(z, j, nodes, level_map)
    assert len(payload) <= (bits_z.sum() + bits_y.sum()) / 8 * 1.005
    back = decode_symbols(part, payload, 320, 320, nodes, level_map)
    assert np.array_equal(back.z, z) and np.array_equal(back.j, j)
    for damaged in (b"", payload[:1], payload[:-1], payload[: len(payload) // 2]):
        with pytest.raises(CorruptPayloadError):
            decode_symbols(part, damaged, 320, 320, nodes, level_map)


def test_values_out_of_range_fail_the_encoder(part: IntegerPart) -> None:
    z, j, nodes, level_map = make_scene(part, 8, 8, 1, seed=5)
    j[0, 0, 0] = 1 << 15
    with pytest.raises(RcodecError, match="32767"):
        encode_symbols(part, z, j, nodes, level_map, lanes=16, lanes_from=1)


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_fail_cleanly(part: IntegerPart, data: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_symbols(
            part,
            b"\x01" + data,
            16,
            16,
            np.array([300]),
            np.zeros((16, 16), np.uint8),
            lanes_from=1,
        )


def golden_symbols() -> tuple[TableBank, np.ndarray, np.ndarray]:
    """A bank and 400 symbols of integers alone."""
    freq = [3000, 9000, 40000, 9000, 3000, 65535, 20000, 20000, 20000]
    bank = TableBank(np.array([-2, 7, -1]), np.array([5, 1, 3]), np.array(freq))
    words = np.random.Philox(key=400).random_raw(400)
    tables = np.sort((words % np.uint64(3)).astype(np.int32))[::-1].copy()
    k = bank.minimum[tables] + (words >> np.uint64(40)).astype(np.int64) % bank.count[tables]
    k[[0, 111, 399]] = 20, -32767, 32767
    return bank, tables, k.astype(np.int32)


def test_golden_payload() -> None:
    """The bytes that these symbols have had since lanes came to be."""
    bank, tables, k = golden_symbols()
    payload = bytes.fromhex(GOLDEN)
    assert np.array_equal(decode_lanes(RangeDecoder(payload[1:]), payload, bank, tables), k)
    assert encode_lanes(RangeEncoder(), bank, tables, k, 16) == payload


GOLDEN = (
    "0100a20f80d680b652c55ed8c70f0b98c2c58a58dedca5cfc76f9863e564521e683ca4762a97d3e5703faae7"
    "ff27b102693a2c64e56e681cafe1b79fd602e9ec3e72395df7e330b76ac0ffd6f46ff4ec301ee89806b70919"
    "f736f7a56b03eeea3128c49fcecb4f"
)
