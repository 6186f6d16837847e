"""CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, initial value and final XOR 0xFFFFFFFF."""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANE_BYTES = 1 << 10
_SMALL = 1 << 13  # below this the plain loop is as fast


@functools.cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _advance(state: int, data: bytes) -> int:
    table = _byte_table()
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state


@functools.cache
def _lane_tables() -> tuple[tuple[int, ...], ...]:
    """Effect of _LANE_BYTES zero bytes on a state, by each of its four bytes.

    Advancing by zeros is linear over GF(2): the effect of a state is the XOR over its set bits.
    """
    zeros = bytes(_LANE_BYTES)
    of_bit = [_advance(1 << bit, zeros) for bit in range(32)]
    tables = []
    for byte in range(4):
        table = [0] * 256
        for value in range(1, 256):
            low = value & -value
            table[value] = table[value ^ low] ^ of_bit[8 * byte + low.bit_length() - 1]
        tables.append(tuple(table))
    return tuple(tables)


def crc32c(data: bytes) -> int:
    """CRC-32C of the data, 0 .. 2^32 - 1.

    Long data are cut into lanes whose states advance together in NumPy; a lane's state is then
    moved over the lanes that follow by linearity.
    """
    state = 0xFFFFFFFF
    lanes = len(data) // _LANE_BYTES if len(data) >= _SMALL else 0
    if lanes:
        columns = np.frombuffer(data, np.uint8, lanes * _LANE_BYTES).reshape(lanes, -1).T
        table = np.array(_byte_table(), np.uint32)
        states = np.zeros(lanes, np.uint32)
        for column in np.ascontiguousarray(columns):
            states = table[(states ^ column) & 0xFF] ^ states >> 8
        first, second, third, fourth = _lane_tables()
        for lane in states.tolist():
            moved = first[state & 0xFF] ^ second[state >> 8 & 0xFF]
            state = moved ^ third[state >> 16 & 0xFF] ^ fourth[state >> 24] ^ lane
    return _advance(state, data[lanes * _LANE_BYTES :]) ^ 0xFFFFFFFF
