"""A second decoder, from FORMAT.md alone: payload and files.

Slow, scalar, plain integers. It imports nothing of the package and no array library, on purpose:
what it cannot do from the page is missing in the page. Section numbers are those of FORMAT.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from reference_network import Grid, Part, changes, predict
from reference_stream import (
    Container,
    RangeDecoder,
    Table,
    decode_level_map,
    escaped,
    find,
    level_nodes,
    read_container,
    require,
)

# Section 6

DITHER_KEY = (0x72636F6465632D64, 0x69746865722D7630)
WORD = (1 << 64) - 1


def philox(counter: int) -> tuple[int, int, int, int]:
    """The four output words of one counter value."""
    a, b, c, d = counter, 0, 0, 0
    k0, k1 = DITHER_KEY
    for _ in range(10):
        p, q = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = q >> 64 ^ b ^ k0, q & WORD, p >> 64 ^ d ^ k1, p & WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return a, b, c, d


def dither(count: int) -> list[int]:
    words = (word for n in range(1, (count + 3) // 4 + 1) for word in philox(n))
    return [word >> 58 for word, _ in zip(words, range(count), strict=False)]


@dataclass
class Payload:
    """Values in raster order, by which a picture's symbols can be compared."""

    z: list[int]
    j: list[int]
    mean: list[int]
    log2_sigma: list[int]


def decode_payload(part: Part, data: bytes, h: int, w: int, node_map: list[list[int]]) -> Payload:
    """node_map: node of every cell, [h][w]."""
    channels = part.latent_channels
    large = h * w * channels >= 300000
    require(not large or len(data) >= 1, "no byte that says how the payload is coded")
    parts = [data]
    if large and part.context and data[0]:
        require(data[0] == 1 and len(data) >= 5, "first byte of two halves")
        end = 5 + int.from_bytes(data[1:5], "little")
        parts = [data[5:end], data[end:]]
        require(all(half and half[0] for half in parts), "a half without lanes")
    stream = RangeDecoder(parts[0][1:] if large else data)

    s = part.stride
    hz, wz = -(-h // s), -(-w // s)
    rows = [row + [row[-1]] * (wz * s - w) for row in node_map]
    rows += [rows[-1]] * (hz * s - h)
    z = _decode_hyper(part, stream, hz, wz, rows)
    prior = [row[:w] for row in predict(part, z, rows)[:h]]

    indices = dither(h * w * channels)
    places = [(r, q, c) for r in range(h) for q in range(w) for c in range(channels)]
    halves = [places]
    if part.context:
        halves = [[at for at in places if sum(at) % 2 == odd] for odd in (0, 1)]
    j = [[[0] * channels for _ in range(w)] for _ in range(h)]
    for number, half in enumerate(halves):
        if number:
            values = [[[0] * channels for _ in range(w)] for _ in range(h)]
            for r, q, c in halves[0]:
                i = indices[(r * w + q) * channels + c]
                n = 128 * j[r][q][c] - (2 * i + 1 - 64)
                level = _sigma_index(part, prior[r][q][channels + c], node_map[r][q])
                bits = 22
                if part.centroids:
                    size, bits = abs(n), 13
                    near = part.centroids[192 * level + min(size, 383) // 2]
                    near += 64 * max(size - 383, 0)
                    n = near if n > 0 else -near
                else:
                    n *= part.gain[level]
                n *= part.step[node_map[r][q]]
                values[r][q][c] = (n + (1 << (bits + 3))) >> (bits + 4)
            change = changes(part, prior, values, node_map)
            for r, q, c in half:
                prior[r][q][c] += change[r][q][c]
                prior[r][q][channels + c] += change[r][q][channels + c]
        coded, tables, signs = [], [], []
        for r, q, c in half:
            i = indices[(r * w + q) * channels + c]
            level = _sigma_index(part, prior[r][q][channels + c], node_map[r][q])
            table = part.gaussian[32 * level + (i if i < 32 else 63 - i)]
            if _others(table) >= part.skip:
                coded.append((r, q, c))
                tables.append(table)
                signs.append(1 if i < 32 else -1)
        if large and data[0]:
            if number:
                stream = RangeDecoder(parts[1][1:])
            k = _decode_lanes(stream, 16 * parts[number][0], tables)
        else:
            k = [stream.symbol(table) for table in tables]
        for (r, q, c), sign, value in zip(coded, signs, k, strict=True):
            j[r][q][c] = sign * value
    if not (large and data[0]):
        stream.finish()
    return Payload(
        [v for row in z for at in row for v in at],
        [v for row in j for at in row for v in at],
        [v for row in prior for at in row for v in at[:channels]],
        [v for row in prior for at in row for v in at[channels:]],
    )


def _others(table: Table) -> int:
    """What of 2^16 all values but 0 have."""
    minimum, starts = table
    place = 1 - minimum  # of 0: place 0 is the escape
    if not 1 <= place < len(starts):
        return 65536
    return 65536 - ([*starts, 65536][place + 1] - starts[place])


def _sigma_index(part: Part, log2_sigma: int, node: int) -> int:
    x = log2_sigma + part.node_log2_s[node] + 13607
    return min(max((x * 326543 + (1 << 26)) >> 27, 0), 63)


def _decode_hyper(
    part: Part, stream: RangeDecoder, hz: int, wz: int, rows: list[list[int]]
) -> Grid:
    """z; rows: node of every cell, extended to whole cells of z."""
    s, channels = part.stride, part.hyper_channels
    z: Grid = [[[] for _ in range(wz)] for _ in range(hz)]
    strides = [1] if part.hyper_weight is None else [8, 4, 2, 1]
    contexts = 1 if part.hyper_weight is None else 4
    for number, stride in enumerate(strides):
        for r in range(0, hz, stride):
            for q in range(0, wz, stride):
                if number and r % (2 * stride) == q % (2 * stride) == 0:
                    continue  # on the grid before
                # Levels ascend with their nodes: the lowest node is that of the lowest level.
                lowest = min(min(row[s * q : s * q + s]) for row in rows[s * r : s * r + s])
                predicted, context = [0] * channels, [0] * channels
                if number:
                    pairs = [_around(r, 2 * stride, hz), _around(q, 2 * stride, wz)]
                    around = [z[a][b] for a in pairs[0] for b in pairs[1]]
                    for c, values in enumerate(zip(*around, strict=True)):
                        assert part.hyper_weight is not None
                        predicted[c] = (sum(values) * part.hyper_weight[c] + 512) >> 10
                        context[c] = 1 + min(max(values) - min(values), 2)
                k = part.node_class[lowest]
                for c in range(channels):
                    table = (c * part.classes + k) * contexts + context[c]
                    value = predicted[c] + stream.symbol(part.hyper[table])
                    require(-32767 <= value <= 32767, "a hyper-latent out of range")
                    z[r][q].append(value)
    return z


def _around(at: int, stride: int, size: int) -> tuple[int, int]:
    """The multiples of the stride at or before and at or after a place, within the grid."""
    low = at - at % stride
    high = low if low == at or low + stride >= size else low + stride
    return low, high


# Section 6.1


class Lanes:
    def __init__(self, states: list[int], data: bytes, at: int) -> None:
        self.states, self.data, self.at = states, data, at
        self.q = 0

    def begin_pass(self) -> None:
        self.q = 0

    def number(self, starts: list[int]) -> int:
        """Which interval; they start where the list says and end at 2^16."""
        lane = self.q % len(self.states)
        self.q += 1
        x = self.states[lane]
        v = x & 65535
        place, start, freq = find((0, starts), v)
        x = freq * (x >> 16) + v - start
        if x < 1 << 24:
            require(self.at + 2 <= len(self.data), "no word left")
            x = x << 16 | int.from_bytes(self.data[self.at : self.at + 2], "big")
            self.at += 2
        self.states[lane] = x
        return place


def _frequencies(table: Table) -> list[int]:
    return [b - a for a, b in zip(table[1], [*table[1][1:], 65536], strict=True)]


def _classify(table: Table) -> tuple[int, int, int]:
    """Class, the modal value's interval, R."""
    listed = _frequencies(table)[1:]
    rest = 65536 - max(listed)
    octave = rest.bit_length() - 1
    number = 8 * (octave - 1) + ((rest << 3) >> octave)
    if octave >= 14:
        number = min(111 + len(listed), 255)
    return number, listed.index(max(listed)) + 1, rest


@cache
def _gap_starts(number: int) -> list[int]:
    """S_0 .. S_B."""
    octave, fine = number >> 3, number & 7
    size = 1 << min(16 - octave, 7)
    rest = ((2 * fine + 17) << octave) >> 4
    p, starts = 1 << 32, [0]
    for _ in range(size):
        p = p * (65536 - rest) >> 16
        starts.append(65536 - (p >> 16))
    return starts


def _not_modal(table: Table, modal: int, rest: int) -> list[int]:
    """Starts of the intervals without the modal value's."""
    starts, total = [], 0
    for interval, freq in enumerate(_frequencies(table)):
        if interval != modal:
            starts.append(total * 65536 // rest)
            total += freq
    return starts


def _decode_gaps(lanes: Lanes, order: list[int], numbers: list[int]) -> list[int]:
    """Places of the symbols that are not modal, in their order."""
    blocks: list[tuple[int, int, list[int]]] = []  # where it goes on, its end, S
    at = 0
    while at < len(order):
        number = numbers[order[at]]
        starts = _gap_starts(number)
        end = at
        while end < min(len(order), at + len(starts) - 1) and numbers[order[end]] == number:
            end += 1
        blocks.append((at, end, starts))
        at = end
    found = []
    while blocks:
        lanes.begin_pass()
        unfinished = []
        for at, end, starts in blocks:
            gap = lanes.number(starts[: end - at + 1])
            if gap == end - at:
                continue
            found.append(at + gap)
            if at + gap + 1 < end:
                unfinished.append((at + gap + 1, end, starts))
        blocks = unfinished
    return [order[at] for at in sorted(found)]


def _decode_lanes(a: RangeDecoder, count: int, tables: list[Table]) -> list[int]:
    kinds = {key: _classify(table) for key, table in {id(t): t for t in tables}.items()}
    numbers = [kinds[id(table)][0] for table in tables]
    order = sorted(range(len(tables)), key=lambda place: (-numbers[place], place))
    plain = [place for place in order if numbers[place] >= 112]
    first = a.golomb()
    require(first <= len(plain), "more symbols in stream B than there are")
    states = []
    for _ in range(count):
        b = a.bits(4)
        r = a.bits(16) | a.bits(8) << 16
        if b:
            r |= a.bits(b) << 24
        states.append((1 << 24 + b) + r)
    lanes = Lanes(states, a.data, a.finish_before_others())

    rare = _decode_gaps(lanes, order[len(plain) :], numbers)
    k = [0] * len(tables)
    for place, table in enumerate(tables):
        k[place] = table[0] + kinds[id(table)][1] - 1
    escapes = []
    lanes.begin_pass()
    for place in plain[first:]:
        interval = lanes.number(tables[place][1])
        k[place] = tables[place][0] + interval - 1
        if interval == 0:
            escapes.append(place)
    others: dict[int, list[int]] = {}
    for place in rare:
        table = tables[place]
        _, modal, rest = kinds[id(table)]
        if id(table) not in others:
            others[id(table)] = _not_modal(table, modal, rest)
        interval = lanes.number(others[id(table)])
        k[place] = table[0] + interval - 1 + (interval >= modal)
        if interval == 0:
            escapes.append(place)
    require(all(1 << 24 <= x < 1 << 25 for x in lanes.states), "a lane ends otherwise")
    held = b"".join((x - (1 << 24)).to_bytes(3, "big") for x in lanes.states)

    stream = RangeDecoder(held + lanes.data[lanes.at :])
    for place in plain[:first]:
        k[place] = stream.symbol(tables[place])
    for place in escapes:
        k[place] = escaped(tables[place], stream.golomb())
    require(stream.bits(16) == 0, "stream B does not close")
    stream.finish()
    return k


@dataclass
class Decoded:
    """All that a file says; values in raster order."""

    container: Container
    node_map: list[list[int]]
    payload: Payload

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the values as little-endian 32-bit integers."""
        values = {
            "levels": [node for row in self.node_map for node in row],
            "z": self.payload.z,
            "j": self.payload.j,
            "mean": self.payload.mean,
            "log2_sigma": self.payload.log2_sigma,
        }
        return {
            name: hashlib.sha256(
                b"".join(v.to_bytes(4, "little", signed=True) for v in list_)
            ).hexdigest()
            for name, list_ in values.items()
        }


def decode(data: bytes, part: Part) -> Decoded:
    """Decodes a file with the integer part of its model."""
    container = read_container(data)
    require(container.integer_digest == part.digest, "the file is of another model")
    h, w = -(-container.height // 8), -(-container.width // 8)
    nodes = level_nodes(container.n_lo, container.n_hi, container.levels)
    levels = decode_level_map(container.level_map, h, w, container.levels)
    node_map = [[nodes[level] for level in row] for row in levels]
    return Decoded(container, node_map, decode_payload(part, container.payload, h, w, node_map))
