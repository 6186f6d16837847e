"""The payload of a large picture in lanes: stream A, the words, the rest of stream B.

bitstream/FORMAT.md, section 6.1, has the rules. What lanes cost beyond the ideal is their first
and last states; the last ones carry data (the first bytes of stream B, coded by the scalar range
coder), the first ones are written without waste, and half a byte per lane is left.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.lanes import COST_BITS, PAYLOAD_BYTES, STATE_BITS, lane_tables
from rcodec_jax.entropy.rangecoder import (
    HALF,
    TOTAL_BITS,
    RangeDecoder,
    RangeEncoder,
    raw_bits,
)
from rcodec_jax.entropy.serial import decode_values, encode_values
from rcodec_jax.entropy.tables import TableBank
from rcodec_jax.errors import CorruptPayloadError

LANE_UNIT = 16
"""The number of lanes is a multiple of this."""

MAX_LANES = 1024
"""Most lanes the encoder takes, past which nothing gets faster; the format goes to 4080."""

_MIN_LANES = 32  # fewer are no faster than the scalar coder
_MAX_SERIAL = (1 << 18) - 2  # what an Exp-Golomb code can say
_FIXED_BYTES = 10  # ends of the streams, K, and so on
_LANE_BYTES_100 = 52  # hundredths of a byte that a lane costs


def plan_lanes(ideal_bits: int) -> int:
    """Lanes worth taking for a payload of so many bits, 0 if none: they cost 0.4 % of it."""
    budget = ideal_bits // 8 // 250 - _FIXED_BYTES
    lanes = budget * 100 // _LANE_BYTES_100 // LANE_UNIT * LANE_UNIT
    return min(lanes, MAX_LANES) if lanes >= _MIN_LANES else 0


def encode_lanes(
    first: RangeEncoder,
    bank: TableBank,
    tables: np.ndarray,
    k: np.ndarray,
    lanes: int | None = None,
) -> bytes:
    """Codes symbols in lanes.

    Args:
      first: stream A, holding z so far; it is ended here.
      bank: the tables.
      tables: int [n], table of each symbol, in the order of section 6.1; k: int32 [n].
      lanes: N, a multiple of 16 up to 4080; None for as many as are worth it.

    Returns:
      the payload after its first byte, with that byte in front; b"" if lanes are not worth it.
    """
    vector = lane_tables(bank)
    intervals, escapes = vector.intervals(tables, k)
    cost = vector.cost.take(intervals)
    if lanes is None:
        lanes = plan_lanes(int(cost.sum(dtype=np.int64)) >> COST_BITS)
    cost = np.cumsum(cost[:_MAX_SERIAL], dtype=np.int64) >> COST_BITS
    needed = 8 * PAYLOAD_BYTES * lanes
    while lanes:
        serial = int(np.searchsorted(cost, needed)) + 1
        if serial > cost.size:
            return b""
        second = RangeEncoder()
        encode_values(second, bank, tables[:serial], k[:serial])
        far = escapes[escapes >= serial]
        bits, _ = raw_bits(vector.escape_values(tables[far], k[far]))
        second.encode(bits.tolist(), [HALF] * bits.size)
        second.encode([0], [1])
        data = second.finish()
        if len(data) >= PAYLOAD_BYTES * lanes:
            break
        needed += 64
    else:
        return b""
    held = np.frombuffer(data[: PAYLOAD_BYTES * lanes], np.uint8).reshape(lanes, PAYLOAD_BYTES)
    states = np.full(lanes, 1, np.uint64)
    for column in range(PAYLOAD_BYTES):
        states = states << np.uint64(8) | held[:, column]
    states, words = vector.encode(intervals[serial:], states)
    bits, _ = raw_bits(np.array([serial]))
    first.encode(bits.tolist(), [HALF] * bits.size)
    _write_states(first, states)
    head = bytes([lanes // LANE_UNIT]) + first.finish_open()
    return b"".join([head, words, data[PAYLOAD_BYTES * lanes :]])


def decode_lanes(
    first: RangeDecoder, payload: bytes, bank: TableBank, tables: np.ndarray
) -> np.ndarray:
    """Decodes what `encode_lanes` wrote.

    Args:
      first: the decoder of stream A, after z.
      payload: all of it, from the byte c, which is not 0.
      bank, tables: as for the encoder.

    Returns:
      k int32 [n].

    Raises:
      CorruptPayloadError: damage.
    """
    lanes = payload[0] * LANE_UNIT
    serial = first.decode_exp_golomb()
    if serial > tables.size:
        raise CorruptPayloadError(f"payload names {serial} of {tables.size} symbols", offset=1)
    states = _read_states(first, lanes)
    begin = 1 + first.end_open()
    words = np.frombuffer(payload, ">u2", (len(payload) - begin) // 2, begin).astype(np.uint16)
    vector = lane_tables(bank)
    k = np.empty(tables.size, np.int32)
    try:
        k[serial:], escapes, states, taken = vector.decode(tables[serial:], states, words)
    except CorruptPayloadError as error:
        raise CorruptPayloadError(str(error), offset=len(payload)) from None
    end = begin + 2 * taken
    if np.any(states >> np.uint64(STATE_BITS) != 1):
        raise CorruptPayloadError("payload: lanes do not end in a valid state", offset=end)
    held = (states.astype(">u8").view(np.uint8).reshape(lanes, 8))[:, 8 - PAYLOAD_BYTES :]
    second = RangeDecoder(held.tobytes() + payload[end:])
    try:
        decode_values(second, bank, tables[:serial], k[:serial])
        if escapes.size:
            places = [(index, second.decode_exp_golomb()) for index in range(escapes.size)]
            where = escapes + serial
            k[where] = bank.values(tables[where], [1] * len(places), places)
        if second.decode_uniform(TOTAL_BITS) != 0:
            raise CorruptPayloadError("payload: its second stream is damaged")
        second.finish()
    except CorruptPayloadError as error:
        raise CorruptPayloadError(str(error), offset=end) from None
    return k


def _write_states(encoder: RangeEncoder, states: np.ndarray) -> None:
    x = states.astype(np.int64)
    extra = np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1 - STATE_BITS  # exact below 2^53
    rest = x - (1 << (STATE_BITS + extra))
    starts = [extra << 12, rest & 0xFFFF, (rest >> 16 & 0xFF) << 8]
    starts.append(rest >> STATE_BITS << (TOTAL_BITS - extra))
    one = np.ones_like(x)
    freqs = np.stack([one << 12, one, one << 8, one << (TOTAL_BITS - extra)], 1)
    written = np.stack([one, one, one, extra], 1) > 0  # no fourth number if extra is 0
    encoder.encode(np.stack(starts, 1)[written].tolist(), freqs[written].tolist())


def _read_states(decoder: RangeDecoder, lanes: int) -> np.ndarray:
    states = []
    for _ in range(lanes):
        extra = decoder.decode_uniform(4)
        rest = decoder.decode_uniform(16) | decoder.decode_uniform(8) << 16
        if extra:
            rest |= decoder.decode_uniform(extra) << STATE_BITS
        states.append(rest + (1 << (STATE_BITS + extra)))
    return np.array(states, np.uint64)
