"""A second decoder, from FORMAT.md alone: container, range coder and level map.

Slow, scalar, plain integers. It imports nothing of the package and no array library, on purpose:
what it cannot do from the page is missing in the page. Section numbers are those of FORMAT.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

Table = tuple[int, list[int]]
"""Least value of a table, and where its intervals start: the escape at 0, the listed values."""


class FormatError(Exception):
    """Not a file that the page allows."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(what)


# Section 1


@dataclass
class Container:
    width: int
    height: int
    levels: int
    n_lo: int
    n_hi: int
    integer_digest: bytes
    float_digest: bytes
    level_map: bytes
    tone: bytes
    payload: bytes
    grey: bool
    shown: tuple[int, int]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(5):
        require(at + n < len(data), "a varint is cut")
        byte = data[at + n]
        value |= (byte & 127) << 7 * n
        if not byte & 128:
            require(byte != 0 or n == 0, "a varint is longer than it need be")
            return value, at + n + 1
    raise FormatError("a varint of more than five bytes")


def read_container(data: bytes) -> Container:
    require(data[:3] == b"rdc" and len(data) > 3, "magic")
    require(data[3] >> 4 == 0, "version")
    levels = (data[3] & 15) + 1
    width, at = read_varint(data, 4)
    height, at = read_varint(data, at)
    require(1 <= width <= 1 << 16 and 1 <= height <= 1 << 16, "size")
    require(width * height <= 1 << 28, "size")
    require(len(data) >= at + 15, "the header is cut")
    packed = int.from_bytes(data[at : at + 3], "little")
    n_lo, n_hi = packed & 1023, packed >> 10 & 1023
    require(n_lo <= n_hi, "nodes")
    shown = height, width
    if packed >> 23:  # section 2: the reduced picture
        width, height = (width + 1) // 2, (height + 1) // 2
    require(levels > 1 or n_lo == n_hi, "one level has one node")
    digests = data[at + 3 : at + 15]
    at, length, tone_length = at + 15, 0, 0
    if levels > 1:
        length, at = read_varint(data, at)
        require(length >= 1, "no level map")
    if packed >> 20 & 1:
        tone_length, at = read_varint(data, at)
        require(tone_length >= 1, "no tone map")
    if packed >> 22 & 1:
        about, at = read_varint(data, at)
        require(1 <= about <= 1024, "no metadata, or too many")
        at += about
    tone = at + length
    end = tone + tone_length
    require(len(data) >= end + 8, "the file is cut")
    payload = data[end + 4 : -4]
    require(crc32c(data[:end]) == int.from_bytes(data[end : end + 4], "little"), "header CRC")
    require(crc32c(payload) == int.from_bytes(data[-4:], "little"), "payload CRC")
    return Container(
        width, height, levels, n_lo, n_hi, digests[:8], digests[8:],
        data[at:tone], data[tone:end], payload, bool(packed >> 21 & 1), shown,
    )  # fmt: skip


# Section 2


def level_nodes(n_lo: int, n_hi: int, levels: int) -> list[int]:
    if levels == 1:
        return [n_lo]
    last = levels - 1
    return [(n_lo * (last - i) + n_hi * i + last // 2) // last for i in range(levels)]


# Section 3


class RangeDecoder:
    """Decodes a stream that begins at the start of `data`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.n = data, 0
        # One byte completes an odd length; three words of zeros follow.
        self.words = (len(data) + 1) // 2 + 3
        self.width, self.code = 1 << 48, 0
        for _ in range(3):
            self.code = self.code << 16 | self._next()

    def _word(self, number: int) -> int:
        pair = self.data[2 * number : 2 * number + 2]
        return int.from_bytes(pair + bytes(2 - len(pair)), "big")

    def _next(self) -> int:
        require(self.n < self.words, "the stream ends too early")
        self.n += 1
        return self._word(self.n - 1)

    def _target(self) -> int:
        v = self.code // (self.width >> 16)
        require(v < 1 << 16, "outside all intervals")
        return v

    def _take(self, start: int, freq: int) -> None:
        step = self.width >> 16
        self.code -= step * start
        self.width = step * freq
        if self.width < 1 << 32:
            self.code = self.code << 16 | self._next()
            self.width <<= 16

    def bits(self, count: int) -> int:
        """A value whose interval is [v 2^(16-count), (v+1) 2^(16-count))."""
        value = self._target() >> 16 - count
        self._take(value << 16 - count, 1 << 16 - count)
        return value

    def flag(self, f: int) -> bool:
        value = self._target() < f
        self._take(0 if value else f, f if value else 65536 - f)
        return value

    def index(self, table: Table) -> int:
        """Section 4: which interval of a table, 0 the escape."""
        place, start, freq = find(table, self._target())
        self._take(start, freq)
        return place

    def golomb(self) -> int:
        """Section 4: u."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            require(zeros <= 17, "an escape is too long")
        u = 1
        for _ in range(zeros):
            u = u << 1 | self.bits(1)
        return u - 1

    def symbol(self, table: Table) -> int:
        place = self.index(table)
        return table[0] + place - 1 if place else escaped(table, self.golomb())

    def _end(self, counts: range, fits_twice: bool) -> tuple[int, int, int]:
        """x, e and c."""
        x = 0
        for number in range(self.n - 3, self.n):
            x = x << 16 | self._word(number)
        low = (x - self.code) % (1 << 48)
        for c in counts:
            unit = 1 << 48 - 8 * c
            e = -(-low // unit) * unit
            if (e + unit <= low + self.width) if fits_twice else (e < low + self.width):
                return x, e % (1 << 48), c
        raise FormatError("no end")

    def finish(self) -> None:
        """The end of a stream that is all of the data."""
        x, e, c = self._end(range(3), fits_twice=False)
        require(len(self.data) == 2 * (self.n - 3) + c, "the stream has another length")
        require(x == e, "the stream ends otherwise")

    def finish_before_others(self) -> int:
        """Section 6.1: the end of stream A; its length."""
        x, e, c = self._end(range(4), fits_twice=True)
        length = 2 * (self.n - 3) + c
        require(length <= len(self.data), "stream A is cut")
        require(x >> 48 - 8 * c == e >> 48 - 8 * c, "stream A ends otherwise")
        return length


# Section 4


def find(table: Table, v: int) -> tuple[int, int, int]:
    """The interval of a table that holds v: its number, start and frequency."""
    _, starts = table
    place = bisect_right(starts, v) - 1
    start = starts[place]
    return place, start, (starts[place + 1] if place + 1 < len(starts) else 65536) - start


def escaped(table: Table, u: int) -> int:
    minimum, starts = table
    value = minimum - 1 - (u >> 1) if u & 1 else minimum + len(starts) - 1 + (u >> 1)
    require(-32767 <= value <= 32767, "a value is outside its range")
    return value


# Section 5


def flags(stream: RangeDecoder, contexts: int, other: dict[int, int]) -> Callable[[int], bool]:
    true, false = [8] * contexts, [other.get(context, 8) for context in range(contexts)]

    def flag(context: int) -> bool:
        t, f = true[context], false[context]
        value = stream.flag(min(max((t << 16) // (t + f), 1), 65535))
        (true if value else false)[context] += 16
        if true[context] + false[context] >= 1 << 20:
            true[context] = (true[context] + 1) >> 1
            false[context] = (false[context] + 1) >> 1
        return value

    return flag


def decode_level_map(data: bytes, h: int, w: int, levels: int) -> list[list[int]]:
    if levels == 1:
        return [[0] * w for _ in range(h)]
    stream = RangeDecoder(data)
    g = stream.bits(1) << 1
    g |= stream.bits(1)
    flag = flags(stream, 30, {7: 1024, 15: 1024})

    def entry(west: int, north: int, north_west: int, north_east: int) -> int:
        same_north = (north == north_west) + 2 * (north == north_east)
        if not flag(
            (west == north)
            + 2 * (west == north_west)
            + 4 * (west == north_east)
            + 8 * (north == north_east)
        ):
            return west
        if levels == 2:
            return 1 - west
        if north != west and not flag(16 + same_north + 4 * (west == north_west)):
            return north
        if north_east not in (west, north) and not flag(24 + (north == north_west)):
            return north_east
        up = west == 0 or (west != levels - 1 and flag(26))
        room, step = (levels - 1 - west if up else west), 1
        while step < room and flag(27 + min(step, 3) - 1):
            step += 1
        return west + step if up else west - step

    rows: list[list[int]] = []
    columns = (w + (1 << g) - 1) >> g
    for r in range((h + (1 << g) - 1) >> g):
        row: list[int] = []
        for q in range(columns):
            if r == 0:
                west = row[q - 1] if q else levels - 1
                row.append(entry(west, west, west, west))
                continue
            north = rows[r - 1][q]
            north_east = rows[r - 1][q + 1] if q + 1 < columns else north
            if q:
                row.append(entry(row[q - 1], north, rows[r - 1][q - 1], north_east))
            else:
                row.append(entry(north, north, north, north_east))
        rows.append(row)
    stream.finish()
    return [[rows[r >> g][q >> g] for q in range(w)] for r in range(h)]


# Section 5.1


def decode_tone(data: bytes, height: int, width: int) -> tuple[int, int, list[list[list[int]]]]:
    """Spacing, step, and red, green and blue of every point."""
    stream = RangeDecoder(data)
    spacing = 32 << (stream.bits(1) << 1 | stream.bits(1))
    step = 1 << (stream.bits(1) << 1 | stream.bits(1))
    flag = flags(stream, 24, {})
    numbers: dict[tuple[int, int, int], int] = {}
    rests: dict[tuple[int, int, int], int] = {}
    rows, columns = -(-height // spacing), -(-width // spacing)
    for r in range(rows):
        for q in range(columns):
            for c in range(3):
                near = [at for at in ((r, q - 1, c), (r - 1, q, c)) if at in numbers]
                k = 12 if c else 0
                rest = 0
                if flag(k + sum(rests[at] != 0 for at in near)):
                    negative, rest = flag(k + 3), 1
                    while flag(k + 3 + min(rest, 8)):
                        rest += 1
                        require(rest <= 1023, "a rest of a tone map")
                    rest = -rest if negative else rest
                rests[r, q, c] = rest
                numbers[r, q, c] = rest + sum(numbers[at] for at in near) // max(len(near), 1)
    stream.finish()
    grid = []
    for r in range(rows):
        grid.append([])
        for q in range(columns):
            green, red, blue = (numbers[r, q, c] for c in range(3))
            grid[r].append([red + green, green, blue + green])
            require(all(abs(value) <= 255 for value in grid[r][q]), "a colour of a tone map")
    return spacing, step, grid
