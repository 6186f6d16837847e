"""Other entropy coders under the package's integer tables; each is optional.

constriction takes one model per call, so its symbols are grouped by table beforehand, and models
and groups are made outside the timing. Its probabilities are the tables' frequencies / 2^16, which
float64 holds exactly; it keeps 24 bits of them itself. CompressAI's coder takes tables of total
2^16 as they are, in Python lists, made outside the timing too.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rcodec_jax.entropy.rangecoder import TOTAL
from rcodec_jax.entropy.tables import TableBank

MOST_IN_LISTS = 1_000_000
"""Symbols past which CompressAI's Python lists take too much memory."""

_ESCAPE_BITS = 18  # raw bits of an escaped value in constriction's streams


@dataclasses.dataclass(frozen=True, eq=False)
class Coder:
    """One way to code the symbols.

    Attributes:
      name: what the table calls it.
      encode: () to data; decode: data to symbols.
      expected: what `decode` must return.
      size: bytes of data.
    """

    name: str
    encode: Callable[[], Any]
    decode: Callable[[Any], np.ndarray]
    expected: np.ndarray
    size: Callable[[Any], int]


def missing() -> list[str]:
    """Peers that are not installed."""
    return [name for name, module in _MODULES.items() if _load(module) is None]


def available(bank: TableBank, tables: np.ndarray, k: np.ndarray) -> list[Coder]:
    """The installed peers, ready for symbols k int64 [n] under tables int64 [n]."""
    coders: list[Coder] = []
    if (module := _load(_MODULES["constriction"])) is not None:
        coders += _constriction(module, bank, tables, k)
    if (module := _load(_MODULES["compressai"])) is not None and k.size <= MOST_IN_LISTS:
        coders.append(_compressai(module, bank, tables, k))
    return coders


_MODULES = {"constriction": "constriction", "compressai": "compressai.ans"}


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def starts(bank: TableBank) -> np.ndarray:
    """Starts of all intervals, table after table, each table's escape first: int64."""
    freqs = frequencies(bank)
    return np.cumsum(freqs) - freqs - np.repeat(np.arange(bank.count.size) * TOTAL, bank.count + 1)


def frequencies(bank: TableBank) -> np.ndarray:
    """Frequencies of all intervals in the same order: int64."""
    first = np.cumsum(bank.count) - bank.count
    return np.insert(bank.listed, first, TOTAL - np.add.reduceat(bank.listed, first))


def _constriction(module: Any, bank: TableBank, tables: np.ndarray, k: np.ndarray) -> list[Coder]:
    order = np.argsort(tables, kind="stable")
    grouped = tables[order]
    offset = k[order] - bank.minimum[grouped]
    outside = (offset < 0) | (offset >= bank.count[grouped])
    symbols = np.where(outside, 0, offset + 1).astype(np.int32)
    used, begins = np.unique(grouped, return_index=True)
    begins = [*begins.tolist(), k.size]
    base = np.cumsum(bank.count + 1) - bank.count - 1
    freq = frequencies(bank) / TOTAL
    groups = []
    for place, table in enumerate(used.tolist()):
        p = freq[base[table] : base[table] + bank.count[table] + 1]
        model = module.stream.model.Categorical(p, perfect=False)
        groups.append((model, symbols[begins[place] : begins[place + 1]]))
    # what an escape stands for, as a number; the coders need not know how to read it
    raw = np.abs(offset[outside]).astype(np.int32)
    uniform = module.stream.model.Uniform(1 << _ESCAPE_BITS)
    if raw.size:
        groups.append((uniform, raw))
    expected = np.concatenate([symbols for _, symbols in groups])

    def encode_range() -> np.ndarray:
        encoder = module.stream.queue.RangeEncoder()
        for model, group in groups:
            encoder.encode(group, model)
        return encoder.get_compressed()

    def decode_range(data: np.ndarray) -> np.ndarray:
        decoder = module.stream.queue.RangeDecoder(data)
        return np.concatenate([decoder.decode(model, group.size) for model, group in groups])

    def encode_ans() -> np.ndarray:
        coder = module.stream.stack.AnsCoder()
        for model, group in reversed(groups):
            coder.encode_reverse(group, model)
        return coder.get_compressed()

    def decode_ans(data: np.ndarray) -> np.ndarray:
        coder = module.stream.stack.AnsCoder(data)
        return np.concatenate([coder.decode(model, group.size) for model, group in groups])

    def size(data: np.ndarray) -> int:
        return data.nbytes

    return [
        Coder("constriction range", encode_range, decode_range, expected, size),
        Coder("constriction ANS", encode_ans, decode_ans, expected, size),
    ]


def _compressai(module: Any, bank: TableBank, tables: np.ndarray, k: np.ndarray) -> Coder:
    # its escape is the last interval instead of the first; frequencies are the same
    first = np.cumsum(bank.count) - bank.count
    cdfs = []
    for begin, count in zip(first.tolist(), bank.count.tolist(), strict=True):
        cdfs.append([0, *np.cumsum(bank.listed[begin : begin + count]).tolist(), TOTAL])
    sizes = (bank.count + 2).tolist()
    offsets = bank.minimum.tolist()
    values, indexes = k.tolist(), tables.tolist()

    def encode() -> bytes:
        return module.RansEncoder().encode_with_indexes(values, indexes, cdfs, sizes, offsets)

    def decode(data: bytes) -> np.ndarray:
        decoder = module.RansDecoder()
        return np.array(decoder.decode_with_indexes(data, indexes, cdfs, sizes, offsets))

    return Coder("CompressAI rANS", encode, decode, k, len)
