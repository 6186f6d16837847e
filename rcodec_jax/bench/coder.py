"""`rcodec bench coder`: the entropy coder beside constriction's and CompressAI's.

All code the same symbols under the same integer tables of the model. Times are CPU seconds of one
thread, so other work on the machine counts little; ratios within one run are what to look at.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from rcodec_jax.bench import coderpeers
from rcodec_jax.entropy import IntegerPart
from rcodec_jax.entropy.coder.rangecoder import TOTAL, RangeEncoder
from rcodec_jax.entropy.latent import LatentReader, encode_latent
from rcodec_jax.entropy.symbols import LANES_FROM
from rcodec_jax.errors import RcodecError
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.levelmap import uniform_level_map

SIZES = (1_000, 10_000, 25_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
"""Numbers of symbols."""

_LEAST_TIME_S = 0.02  # shorter runs are repeated
_ROUNDS = 3
_GRID = (64, 96)  # cells of a 768x512 picture


@dataclasses.dataclass(frozen=True)
class Row:
    """One coder on one number of symbols.

    Attributes:
      name: coder.
      symbols: how many.
      size_bytes: coded size.
      ideal_bytes: -log2 of the tables' probabilities, summed, over 8; with raw bits of escapes.
      encode_rate, decode_rate: symbols per CPU second.
    """

    name: str
    symbols: int
    size_bytes: int
    ideal_bytes: float
    encode_rate: float
    decode_rate: float

    @property
    def over_bytes(self) -> float:
        """Bytes above the ideal."""
        return self.size_bytes - self.ideal_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Symbols distributed exactly as the tables say.

    Attributes:
      index, dither: uint8 [n].
      j: int16 [n].
      tables, k: int64 [n], the table and the value it codes.
      ideal_bytes: float.
    """

    index: np.ndarray
    dither: np.ndarray
    j: np.ndarray
    tables: np.ndarray
    k: np.ndarray
    ideal_bytes: float


def run(
    part: IntegerPart,
    *,
    max_symbols: int,
    node: int,
    progress: Progress = no_progress,
) -> list[Row]:
    """Measures every coder that is installed on every size up to `max_symbols`.

    Args:
      part: the model's integers.
      max_symbols: leaves out sizes above it.
      node: node of the symbols, 0..1023: how fine the quantiser is, so bits per symbol.
      progress: called with (done, total, what).

    Raises:
      RcodecError: a coder does not give the symbols back.
    """
    sizes = [size for size in SIZES if size <= max_symbols]
    indices = sigma_indices(part, node)
    rows: list[Row] = []
    for done, size in enumerate(sizes):
        progress(done, len(sizes), f"{size} symbols")
        sample = draw(part, indices, size, seed=size)
        coders = [coder_of_package(part, sample)]
        coders += coderpeers.available(part.gaussian.bank, sample.tables, sample.k)
        rows += _measure(coders, sample)
    progress(len(sizes), len(sizes), "")
    return rows


def sigma_indices(part: IntegerPart, node: int) -> np.ndarray:
    """Sigma indices of a picture whose hyper-latents follow their tables: uint8 [n]."""
    words = np.random.Philox(key=1)
    levels = uniform_level_map(*_GRID, node=node)
    bank = part.hyper_tables.bank
    z = part.read_hyper(levels, lambda tables: bank.draw(tables, words))
    prior = part.predict(z, levels)
    return part.sigma_index(prior, levels).reshape(-1)


def draw(part: IntegerPart, indices: np.ndarray, size: int, *, seed: int) -> Sample:
    """Symbols under sigma indices drawn from `indices` and any dither."""
    words = np.random.Philox(key=seed)
    index = indices[words.random_raw(size) % indices.size]
    dither = (words.random_raw(size) >> np.uint64(58)).astype(np.uint8)
    tables, signs = part.gaussian.select(index, dither)
    k = part.gaussian.bank.draw(tables, words)
    bits = sum(
        float(part.gaussian.bank.bits(tables[a : a + TOTAL], k[a : a + TOTAL]).sum())
        for a in range(0, size, TOTAL)
    )
    return Sample(index, dither, (k * signs).astype(np.int16), tables, k, bits / 8)


def coder_of_package(part: IntegerPart, sample: Sample) -> coderpeers.Coder:
    """This package's coder, from indices and values in raster order to bytes and back."""
    large = sample.j.size >= LANES_FROM

    def encode() -> bytes:
        values = sample.index, sample.dither, sample.j
        return encode_latent(RangeEncoder(), part.gaussian, [lambda: values], large=large)

    def decode(data: bytes) -> np.ndarray:
        reader = LatentReader(data, part.gaussian, large=large, halves=1)
        return reader.read(sample.index, sample.dither)

    return coderpeers.Coder("rcodec", encode, decode, sample.j, len)


def _measure(coders: list[coderpeers.Coder], sample: Sample) -> Iterator[Row]:
    for coder in coders:
        data = coder.encode()  # also a warm-up: tables are made once per process
        if not np.array_equal(coder.decode(data), coder.expected):
            raise RcodecError(f"{coder.name}: the symbols do not come back")
    times: dict[str, tuple[list[float], list[float]]] = {c.name: ([], []) for c in coders}
    for _ in range(_ROUNDS):  # in turn, so that a busy moment meets all of them
        for coder in coders:
            data = coder.encode()
            times[coder.name][0].append(_seconds(coder.encode))
            times[coder.name][1].append(_seconds(functools.partial(coder.decode, data)))
    for coder in coders:
        encode_s, decode_s = (statistics.median(column) for column in times[coder.name])
        size = coder.size(coder.encode())
        count = sample.j.size
        yield Row(coder.name, count, size, sample.ideal_bytes, count / encode_s, count / decode_s)


def _seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call, the mean of several if it is short."""
    calls, begin = 0, time.process_time()
    while True:
        call()
        calls += 1
        spent = time.process_time() - begin
        if spent >= _LEAST_TIME_S:
            return spent / calls
