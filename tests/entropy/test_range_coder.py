"""The range coder: lossless, as short as the ideal, canonical, and bounded on any bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy.coder.rangecoder import HALF, TOTAL, RangeDecoder, RangeEncoder, raw_bits
from rcodec_jax.errors import CorruptPayloadError

# Cumulative starts; symbol 0 is the escape of each table.
TABLES = [
    [0, 1, TOTAL],
    [0, 1, 2, TOTAL],
    [0, TOTAL - 1, TOTAL],
    [0, 1, TOTAL - 1, TOTAL],
    [0, 100, *range(1000, 61000, 1000), TOTAL],
]


def code(symbols: list[tuple[int, int]]) -> bytes:
    encoder = RangeEncoder()
    starts = [TABLES[t][s] for t, s in symbols]
    freqs = [TABLES[t][s + 1] - TABLES[t][s] for t, s in symbols]
    encoder.encode(starts, freqs)
    return encoder.finish()


def ideal_bits(symbols: list[tuple[int, int]]) -> float:
    return sum(16 - math.log2(TABLES[t][s + 1] - TABLES[t][s]) for t, s in symbols)


def decode(data: bytes, tables: list[int]) -> list[int]:
    decoder = RangeDecoder(data)
    symbols, escapes = decoder.decode(TABLES, tables)
    assert not escapes
    decoder.finish()
    return [symbol - 1 for symbol in symbols]


listed = st.integers(0, len(TABLES) - 1).flatmap(
    lambda t: st.tuples(st.just(t), st.integers(1, len(TABLES[t]) - 2))
)


@given(st.lists(listed, max_size=200))
def test_what_is_encoded_is_decoded_in_ideal_length(symbols: list[tuple[int, int]]) -> None:
    data = code(symbols)
    assert decode(data, [t for t, _ in symbols]) == [s for _, s in symbols]
    assert 8 * len(data) <= ideal_bits(symbols) + 16


def test_nothing_takes_no_bytes() -> None:
    assert RangeEncoder().finish() == b""
    RangeDecoder(b"").finish()


@pytest.mark.parametrize("table,symbol", [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2)])
def test_extreme_frequencies(table: int, symbol: int) -> None:
    symbols = [(table, symbol)] * 3000
    data = code(symbols)
    assert decode(data, [table] * 3000) == [symbol] * 3000
    assert len(data) <= ideal_bits(symbols) / 8 * 1.0001 + 2


def test_a_carry_runs_through_many_words() -> None:
    """All-ones words followed by a carry: the case deferred carries exist for."""
    encoder = RangeEncoder()
    starts, freqs = [HALF], [HALF]
    plan = [(TOTAL - 1, 1)] * 40 + [(HALF, HALF)] * 3 + [(TOTAL - 1, 1)] * 40
    starts += [s for s, _ in plan]
    freqs += [f for _, f in plan]
    encoder.encode(starts, freqs)
    data = encoder.finish()
    decoder = RangeDecoder(data)
    cuts = [[0, HALF, TOTAL], [0, TOTAL - 1, TOTAL]]
    tables = [0] + [1] * 40 + [0] * 3 + [1] * 40
    symbols, _ = decoder.decode(cuts, tables)
    assert symbols == [2] * len(tables)
    decoder.finish()


def test_blocks_do_not_change_bytes() -> None:
    rng = np.random.default_rng(3)
    starts = rng.integers(0, TOTAL - 600, 5000).tolist()
    freqs = rng.integers(1, 600, 5000).tolist()
    whole, pieces = RangeEncoder(), RangeEncoder()
    whole.encode(starts, freqs)
    for first in range(0, 5000, 700):
        pieces.encode(starts[first : first + 700], freqs[first : first + 700])
    assert whole.finish() == pieces.finish()


@given(st.binary(max_size=40), st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_any_bytes_decode_canonically_or_fail(data: bytes, tables: list[int]) -> None:
    """What passes the exhaustion check is exactly what the encoder writes for it."""
    decoder = RangeDecoder(data)
    try:
        symbols, escapes = decoder.decode(TABLES, tables)
        decoder.finish()
    except CorruptPayloadError:
        return
    encoder = RangeEncoder()
    waiting = [value for _, value in escapes]
    for table, symbol in zip(tables, symbols, strict=True):
        cuts = TABLES[table]
        encoder.encode([cuts[symbol - 1]], [cuts[symbol] - cuts[symbol - 1]])
        if symbol == 1:
            bits, _ = raw_bits(np.array([waiting.pop(0)]))
            encoder.encode(bits.tolist(), [HALF] * bits.size)
    assert encoder.finish() == data


def test_trailing_and_missing_bytes_are_seen() -> None:
    rng = np.random.default_rng(4)
    symbols = [(4, int(s)) for s in rng.integers(1, 60, 400)]
    tables = [4] * 400
    data = code(symbols)
    assert decode(data, tables) == [s for _, s in symbols]
    for extra in (b"\0", b"\1", b"\xff\xff", bytes(100)):
        with pytest.raises(CorruptPayloadError):
            decode(data + extra, tables)
    for cut in range(3, len(data)):
        with pytest.raises(CorruptPayloadError):
            decode(data[:-cut], tables)


def test_reading_stops_soon_after_the_end() -> None:
    """A short payload with a long list of symbols: the work ends with the bytes."""
    with pytest.raises(CorruptPayloadError):
        RangeDecoder(b"\x55" * 8).decode(TABLES, iter(lambda: 4, None))  # endless list of symbols


@given(st.lists(st.integers(0, 2**17 - 1), max_size=30))
def test_raw_bits_are_exp_golomb(values: list[int]) -> None:
    starts, lengths = raw_bits(np.array(values, np.int64))
    text = "".join("1" if s else "0" for s in starts.tolist())
    expected = ""
    for value in values:
        binary = bin(value + 1)[2:]
        expected += "0" * (len(binary) - 1) + binary
    assert text == expected
    assert int(lengths.sum()) == len(expected)
