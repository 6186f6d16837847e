"""A second decoder, written from FORMAT.md alone in plain Python: it must read the same symbols."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from rcodec_jax.bitstream import Header, read_container, write_container
from rcodec_jax.entropy import (
    IntegerPart,
    decode_level_map,
    encode_level_map,
    encode_symbols,
)

Table = tuple[int, int, list[int]]  # minimum, count, frequencies


class Stream:
    """Section 3: the range decoder and its end."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(len(data) % 2 + 6)
        self.words = [padded[i] << 8 | padded[i + 1] for i in range(0, len(padded), 2)]
        self.size, self.width, self.n = len(data), 1 << 48, 3
        self.code = self.words[0] << 32 | self.words[1] << 16 | self.words[2]

    def take(self, find: Callable[[int], tuple[int, int, int]]) -> int:
        step = self.width >> 16
        v = self.code // step
        assert v < 65536
        value, start, freq = find(v)
        self.code -= step * start
        self.width = step * freq
        if self.width < 1 << 32:
            self.code = self.code << 16 | self.words[self.n]
            self.n += 1
            self.width <<= 16
        return value

    def raw(self) -> int:
        return self.take(lambda v: (v >> 15, v >> 15 << 15, 1 << 15))

    def flag(self, f: int) -> int:
        return self.take(lambda v: (1, 0, f) if v < f else (0, f, 65536 - f))

    def symbol(self, table: Table) -> int:
        """Section 4."""
        minimum, count, freqs = table

        def find(v: int) -> tuple[int, int, int]:
            start = 0
            for value, freq in enumerate([65536 - sum(freqs), *freqs]):
                if v < start + freq:
                    return value, start, freq
                start += freq
            raise AssertionError

        index = self.take(find)
        if index:
            return minimum + index - 1
        zeros = 0
        while not self.raw():
            zeros += 1
        u = 1
        for _ in range(zeros):
            u = u << 1 | self.raw()
        u -= 1
        return minimum - 1 - (u >> 1) if u & 1 else minimum + count + (u >> 1)

    def end(self) -> None:
        a, b, c = self.words[self.n - 3 : self.n]
        x = a << 32 | b << 16 | c
        low = (x - self.code) % (1 << 48)
        for count in range(3):
            unit = 1 << (48 - 8 * count)
            e = (low + unit - 1) // unit * unit
            if e < low + self.width:
                break
        assert self.size == 2 * (self.n - 3) + count
        assert x == e % (1 << 48)


def map_from_format(data: bytes, h: int, w: int, levels: int) -> list[list[int]]:
    """Section 5."""
    stream = Stream(data)
    side = 1 << (stream.raw() << 1 | stream.raw())
    true, false = [8] * 30, [8] * 30
    false[7] = false[15] = 1024

    def flag(context: int) -> int:
        t, f = true[context], false[context]
        value = stream.flag(min(max((t << 16) // (t + f), 1), 65535))
        (true if value else false)[context] += 16
        if true[context] + false[context] >= 1 << 20:
            true[context] = (true[context] + 1) >> 1
            false[context] = (false[context] + 1) >> 1
        return value

    def entry(W: int, N: int, NW: int, NE: int) -> int:
        if not flag((W == N) + 2 * (W == NW) + 4 * (W == NE) + 8 * (N == NE)):
            return W
        if levels == 2:
            return 1 - W
        if N != W and not flag(16 + (N == NW) + 2 * (N == NE) + 4 * (W == NW)):
            return N
        if NE not in (W, N) and not flag(24 + (N == NW)):
            return NE
        up = W == 0 or (levels - 1 != W and flag(26))
        room, step = (levels - 1 - W if up else W), 1
        while step < room and flag(27 + min(step, 3) - 1):
            step += 1
        return W + step if up else W - step

    rows: list[list[int]] = []
    columns = (w + side - 1) // side
    for r in range((h + side - 1) // side):
        row: list[int] = []
        for q in range(columns):
            if r == 0:
                W = row[-1] if q else levels - 1
                around = (W, W, W, W)
            else:
                N = rows[-1][q]
                NE = rows[-1][q + 1] if q + 1 < columns else N
                around = (row[-1], N, rows[-1][q - 1], NE) if q else (N, N, N, NE)
            row.append(entry(*around))
        rows.append(row)
    stream.end()
    return [[rows[r // side][q // side] for q in range(w)] for r in range(h)]


def dither(count: int) -> list[int]:
    """Section 6, by NumPy's generator (its words are checked in test_dither)."""
    key = np.array([0x72636F6465632D64, 0x69746865722D7630], np.uint64)
    return (np.random.Philox(key=key).random_raw(count) >> np.uint64(58)).tolist()


def read_part(blob: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """Section 8."""
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    description = json.loads(header.pop("__metadata__")["rcodec.integer_part"])
    kinds = {"U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "I64": "<i8"}
    arrays = {}
    for name, entry in header.items():
        a, b = entry["data_offsets"]
        raw = np.frombuffer(blob[8 + size + a : 8 + size + b], kinds[entry["dtype"]])
        arrays[name] = raw.reshape(entry["shape"])
    return arrays, description


def tables(arrays: dict[str, np.ndarray], name: str) -> list[Table]:
    out, at, freq = [], 0, arrays[f"{name}.freq"].tolist()
    counts = arrays[f"{name}.count"].reshape(-1).tolist()
    minima = arrays[f"{name}.minimum"].reshape(-1).tolist()
    for minimum, count in zip(minima, counts, strict=True):
        out.append((minimum, count, freq[at : at + count]))
        at += count
    return out


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_a_decoder_written_from_the_page_reads_the_same(part: IntegerPart, levels: int) -> None:
    rng = np.random.default_rng(levels)
    level_map = rng.integers(0, levels, (4, 5)).astype(np.uint8).repeat(2, 0).repeat(2, 1)[:7, :9]
    n_hi = 800 if levels > 1 else 120
    header = Header(51, 70, 120, n_hi, levels, part.digest, b"\0\0\0\0")
    z = rng.integers(-6, 7, (2, 3, 2))  # the tables end at +-4: some are escapes
    j = np.rint(rng.normal(size=(7, 9, 3)) * 3).astype(np.int32)
    data = write_container(
        header,
        encode_level_map(level_map, levels),
        encode_symbols(part, z, j, header.nodes, level_map),
    )

    box = read_container(data)
    arrays, description = read_part(part.to_bytes())
    assert (description["latent_channels"], description["hyper_stride"]) == (3, 4)
    last = max(levels - 1, 1)
    nodes = [(120 * (levels - 1 - i) + n_hi * i + last // 2) // last for i in range(levels)]
    nodes = nodes if levels > 1 else [120]
    cells = map_from_format(box.level_map, 7, 9, levels) if levels > 1 else [[0] * 9] * 7
    assert cells == level_map.tolist()

    stream = Stream(box.payload)
    hyper, gaussian = tables(arrays, "hyper"), tables(arrays, "gaussian")
    classes = arrays["hyper.count"].shape[1]
    got_z = []
    for r in range(2):
        for q in range(3):
            block = [
                cells[min(y, 6)][min(x, 8)]
                for y in range(4 * r, 4 * r + 4)
                for x in range(4 * q, 4 * q + 4)
            ]
            k = int(arrays["node_class"][nodes[min(block)]])
            got_z += [stream.symbol(hyper[c * classes + k]) for c in range(2)]
    assert got_z == z.reshape(-1).tolist()

    prior = part.predict(z, header.nodes, level_map)  # section 7 has its own reference test
    got_j = []
    for place, i in enumerate(dither(7 * 9 * 3)):
        cell = place // 3
        log2_s = int(arrays["node_log2_s"][nodes[cells[cell // 9][cell % 9]]])
        x = int(prior.log2_sigma.flat[place]) + log2_s + 13607
        s = min(max((x * 326543 + 2**26) >> 27, 0), 63)
        k = stream.symbol(gaussian[32 * s + (i if i < 32 else 63 - i)])
        got_j.append(k if i < 32 else -k)
    assert got_j == j.reshape(-1).tolist()
    stream.end()


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_the_page_describes_the_level_map(levels: int) -> None:
    rng = np.random.default_rng(levels)
    y, x = np.mgrid[:20, :30]
    rings = np.minimum(np.hypot(y - 8, x - 12) / 3, levels - 1).astype(np.uint8)
    noise = rng.integers(0, levels, (20, 30)).astype(np.uint8)
    for level_map in (rings, noise):
        data = encode_level_map(level_map, levels)
        assert map_from_format(data, 20, 30, levels) == level_map.tolist()
        assert np.array_equal(decode_level_map(data, 20, 30, levels), level_map)
