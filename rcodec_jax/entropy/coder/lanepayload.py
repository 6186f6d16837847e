"""The payload of a large picture in lanes: stream A, the words, the rest of stream B.

bitstream/FORMAT.md, section 6.1, has the rules. What lanes cost beyond the ideal is their first
and last states; the last ones carry data (the first bytes of stream B, coded by the scalar range
coder), the first ones are written without waste, and half a byte per lane is left.
"""

from __future__ import annotations

import numpy as np

from rcodec_jax.entropy.coder.intervals import COST_BITS
from rcodec_jax.entropy.coder.lanes import PAYLOAD_BYTES, STATE_BITS, LaneReader, encode
from rcodec_jax.entropy.coder.lanetables import LaneTables, look_up
from rcodec_jax.entropy.coder.rangecoder import (
    HALF,
    TOTAL_BITS,
    RangeDecoder,
    RangeEncoder,
    raw_bits,
)
from rcodec_jax.entropy.coder.runs import Blocks, gap_tables, gaps
from rcodec_jax.entropy.coder.sequential import decode_values, encode_values
from rcodec_jax.errors import CorruptPayloadError

LANE_UNIT = 16
"""The number of lanes is a multiple of this."""

MAX_LANES = 512
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
    vector: LaneTables,
    contexts: np.ndarray,
    values: np.ndarray,
    lanes: int | None = None,
) -> bytes:
    """Codes symbols in lanes.

    Args:
      first: stream A, holding z so far; it is ended here.
      vector: the tables by context.
      contexts: int [n], context of each symbol; values: int16 or int32 [n],
        |value| < 2^15.
      lanes: N, a multiple of 16 up to 4080; None for as many as are worth it.

    Returns:
      the payload after its first byte, with that byte in front; b"" if lanes are not worth it.
    """
    blocks = Blocks.of(look_up(vector.rank, contexts))
    rare = blocks.rare(values != look_up(vector.modal, contexts))
    places = blocks.places(rare)
    intervals, escapes = vector.intervals(contexts, values, places, blocks.plain)
    passes = [(gap_tables().pairs, numbers) for numbers in gaps(blocks, rare)]
    passes.append((vector.pairs, intervals))
    if lanes is None:
        costs = (look_up(pairs.cost, numbers) for pairs, numbers in passes)
        lanes = plan_lanes(sum(int(cost.sum(dtype=np.int64)) for cost in costs) >> COST_BITS)
    cost = vector.pairs.cost.take(intervals[: min(blocks.plain, _MAX_SERIAL)])
    cost = np.cumsum(cost, dtype=np.int64) >> COST_BITS
    needed = 8 * PAYLOAD_BYTES * lanes
    while lanes:
        serial = int(np.searchsorted(cost, needed)) + 1
        if serial > cost.size:
            return b""
        far = escapes[escapes >= serial]
        data = _stream_b(vector, contexts, values, places[:serial], places[far])
        if len(data) >= PAYLOAD_BYTES * lanes:
            break
        needed += 64
    else:
        return b""
    held = np.frombuffer(data[: PAYLOAD_BYTES * lanes], np.uint8).reshape(lanes, PAYLOAD_BYTES)
    states = np.full(lanes, 1, np.uint64)
    for column in range(PAYLOAD_BYTES):
        states = states << np.uint64(8) | held[:, column]
    passes[-1] = vector.pairs, intervals[serial:]
    states, words = encode(passes, states)
    bits, _ = raw_bits(np.array([serial]))
    first.encode(bits.tolist(), [HALF] * bits.size)
    _write_states(first, states)
    head = bytes([lanes // LANE_UNIT]) + first.finish_open()
    return b"".join([head, words, data[PAYLOAD_BYTES * lanes :]])


def _stream_b(
    vector: LaneTables,
    contexts: np.ndarray,
    values: np.ndarray,
    serial: np.ndarray,
    escapes: np.ndarray,
) -> bytes:
    """Stream B of the symbols at the places `serial` and of the escapes in lanes."""
    encoder = RangeEncoder()
    for at, in_full in ((serial, True), (escapes, False)):
        context = contexts[at]
        tables, k = vector.table[context], values[at] * vector.sign[context]
        if in_full:
            encode_values(encoder, vector.bank, tables, k)
        else:
            bits, _ = raw_bits(vector.bank.escape_values(tables, k))
            encoder.encode(bits.tolist(), [HALF] * bits.size)
    encoder.encode([0], [1])
    return encoder.finish()


def decode_lanes(
    first: RangeDecoder, payload: bytes, vector: LaneTables, contexts: np.ndarray
) -> np.ndarray:
    """Decodes what `encode_lanes` wrote.

    Args:
      first: the decoder of stream A, after z.
      payload: all of it, from the byte c, which is not 0.
      vector, contexts: as for the encoder.

    Returns:
      values int16 [n].

    Raises:
      CorruptPayloadError: damage.
    """
    lanes = payload[0] * LANE_UNIT
    serial = first.decode_exp_golomb()
    blocks = Blocks.of(look_up(vector.rank, contexts))
    if serial > blocks.plain:
        raise CorruptPayloadError(f"payload names {serial} of {blocks.plain} symbols", offset=1)
    states = _read_states(first, lanes)
    begin = 1 + first.end_open()
    words = np.frombuffer(payload, ">u2", (len(payload) - begin) // 2, begin).astype(np.uint16)
    reader = LaneReader(states, words)
    values = look_up(vector.modal, contexts)
    try:
        places = blocks.places(reader.gaps(blocks))
        rest = places[serial:]
        escapes = reader.values(vector, contexts, rest, blocks.plain - serial, values)
    except CorruptPayloadError as error:
        raise CorruptPayloadError(str(error), offset=len(payload)) from None
    end = begin + 2 * reader.taken
    if np.any(reader.states >> np.uint64(STATE_BITS) != 1):
        raise CorruptPayloadError("payload: lanes do not end in a valid state", offset=end)
    held = (reader.states.astype(">u8").view(np.uint8).reshape(lanes, 8))[:, 8 - PAYLOAD_BYTES :]
    second = RangeDecoder(held.tobytes() + payload[end:])
    try:
        context = contexts[places[:serial]]
        k = np.empty(serial, np.int32)
        decode_values(second, vector.bank, vector.table[context], k)
        values[places[:serial]] = k * vector.sign[context]
        context = contexts[rest[escapes]]
        far = [(index, second.decode_exp_golomb()) for index in range(escapes.size)]
        k = vector.bank.values(vector.table[context], [1] * len(far), far)
        values[rest[escapes]] = k * vector.sign[context]
        if second.decode_uniform(TOTAL_BITS) != 0:
            raise CorruptPayloadError("payload: its second stream is damaged")
        second.finish()
    except CorruptPayloadError as error:
        raise CorruptPayloadError(str(error), offset=end) from None
    return values


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
