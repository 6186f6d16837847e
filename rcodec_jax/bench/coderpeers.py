"""Other entropy coders under the package's integer tables; each is optional.

constriction takes one model per call, so symbols must be put in the order of their tables: timed
with that, from raster order and back as the package's own coder is, and without it, the coding
calls alone. Its models are made outside the timing, of the tables' frequencies / 2^16, which
float64 holds exactly; it keeps 24 bits of them itself. CompressAI's coder takes tables of total
2^16 as they are, and Python lists, made outside the timing too.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rcodec_jax.entropy.coder.rangecoder import TOTAL
from rcodec_jax.entropy.coder.tables import TableBank

MOST_IN_LISTS = 1_000_000
"""Symbols past which CompressAI's Python lists take too much memory."""

MODULES = {"constriction": "constriction", "compressai": "compressai.ans"}
"""What to import for each peer."""

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
    return [name for name in MODULES if _load(name) is None]


def available(bank: TableBank, tables: np.ndarray, k: np.ndarray) -> list[Coder]:
    """The installed peers, ready for symbols k int64 [n] under tables int64 [n]."""
    coders: list[Coder] = []
    if (module := _load("constriction")) is not None:
        coders += _constriction(module, bank, tables, k)
    if (module := _load("compressai")) is not None and k.size <= MOST_IN_LISTS:
        coders.append(_compressai(module, bank, tables, k))
    return coders


def _load(name: str) -> Any:
    try:
        return importlib.import_module(MODULES[name])
    except ImportError:
        return None


class _Grouped:
    """constriction codes one table at a time: symbols are put in the order of their tables first.

    Args:
      module: constriction.
      bank: the tables; their models are made here, once.
      tables, k: int64 [n], in raster order.
    """

    def __init__(self, module: Any, bank: TableBank, tables: np.ndarray, k: np.ndarray) -> None:
        self.k = k.astype(np.int32)
        self._module = module
        self._bank, self._tables = bank, tables.astype(np.uint16)
        self._base = bank.minimum.astype(np.int32) - 1
        self._count = bank.count.astype(np.int32)
        freq = bank.freq / TOTAL
        categorical = module.stream.model.Categorical
        ends = bank.base + bank.count + 1
        self._models = {
            table: categorical(freq[bank.base[table] : ends[table]], perfect=False)
            for table in np.unique(tables).tolist()
        }
        self._raw = module.stream.model.Uniform(1 << _ESCAPE_BITS)
        offset = k - bank.minimum[tables]
        self.escapes = int(((offset < 0) | (offset >= bank.count[tables])).sum())

    def order(self) -> tuple[np.ndarray, list[tuple[Any, int]]]:
        """Places of the symbols by table, and each table's model and number of symbols."""
        sizes = np.bincount(self._tables, minlength=self._count.size).tolist()
        groups = [(model, sizes[table]) for table, model in self._models.items()]
        return np.argsort(self._tables, kind="stable"), groups

    def arrays(self) -> list[tuple[Any, np.ndarray]]:
        """What to code: (model, symbols), the values of escapes last."""
        order, groups = self.order()
        tables, k = self._tables.take(order), self.k.take(order)
        symbols = k - self._base.take(tables)
        far = (symbols - 1).view(np.uint32) >= self._count.take(tables).view(np.uint32)
        symbols[far] = 0
        arrays, begin = [], 0
        for model, size in groups:
            arrays.append((model, symbols[begin : begin + size]))
            begin += size
        if self.escapes:
            arrays.append((self._raw, k[far] + (1 << 15)))
        return arrays

    def ungroup(self, decode: Callable[[Any, int], np.ndarray]) -> np.ndarray:
        """Values int32 [n] in raster order from a decoder of (model, size)."""
        order, groups = self.order()
        symbols = np.concatenate([decode(model, size) for model, size in groups])
        k = symbols + self._base.take(self._tables.take(order))
        if self.escapes:
            k[symbols == 0] = decode(self._raw, self.escapes) - (1 << 15)
        out = np.empty_like(k)
        out[order] = k
        return out


def _constriction(module: Any, bank: TableBank, tables: np.ndarray, k: np.ndarray) -> list[Coder]:
    grouped = _Grouped(module, bank, tables, k)
    ready = grouped.arrays()
    expected = np.concatenate([symbols for _, symbols in ready])

    def encode_range(arrays: list[tuple[Any, np.ndarray]]) -> np.ndarray:
        encoder = module.stream.queue.RangeEncoder()
        for model, symbols in arrays:
            encoder.encode(symbols, model)
        return encoder.get_compressed()

    def encode_ans(arrays: list[tuple[Any, np.ndarray]]) -> np.ndarray:
        coder = module.stream.stack.AnsCoder()
        for model, symbols in reversed(arrays):
            coder.encode_reverse(symbols, model)
        return coder.get_compressed()

    def size(data: np.ndarray) -> int:
        return data.nbytes

    def coders(name: str, encode: Callable[..., np.ndarray], decoder: Any) -> list[Coder]:
        return [
            Coder(
                f"constriction {name}",
                lambda: encode(grouped.arrays()),
                lambda data: grouped.ungroup(decoder(data).decode),
                grouped.k,
                size,
            ),
            Coder(
                f"constriction {name}, sorted before",
                lambda: encode(ready),
                lambda data: _decode_ready(decoder(data).decode, ready),
                expected,
                size,
            ),
        ]

    return [
        *coders("range", encode_range, module.stream.queue.RangeDecoder),
        *coders("ANS", encode_ans, module.stream.stack.AnsCoder),
    ]


def _decode_ready(
    decode: Callable[[Any, int], np.ndarray], arrays: list[tuple[Any, np.ndarray]]
) -> np.ndarray:
    return np.concatenate([decode(model, symbols.size) for model, symbols in arrays])


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
