"""Tensors in files of `torch.save`, read without PyTorch and without running what they hold.

Such a file is a pickle, which may call anything when it is opened. Here only the functions that
rebuild tensors are known, and ours are called in their place. Both formats are read: the zip of
PyTorch 1.6 and later, and the one before, pickles followed by the raw storages.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import os
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.limits import MAX_DIMENSIONS

MAX_PICKLE_BYTES = 2**24
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Stands for the class of a storage."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str
    size: int
    """Number of values."""


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Offset and strides in values."""


class TorchFile:
    """The tensors of a state dictionary, read one at a time.

    Args:
      path: a file that `torch.save` wrote of a dictionary of tensors.

    Raises:
      UsageError: a file that cannot be read or is damaged, is none of `torch.save`, or holds
        anything besides tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._tensors: dict[str, _Tensor] = {}
        self._starts: dict[str, int] = {}
        try:
            with self._path.open("rb") as file:
                root = self._open(file)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        if not isinstance(root, dict):
            raise UsageError(f"{path}: expected a dictionary of tensors, got {_named(root)}")
        for name, value in root.items():
            if not isinstance(name, str) or not isinstance(value, _Tensor):
                raise UsageError(
                    f"{path}: expected a dictionary of tensors, got {_named(value)} at {name!r}"
                )
            self._tensors[name] = value

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is stored."""
        tensor = self._tensors[name]
        storage = tensor.storage
        with self._path.open("rb") as file:
            file.seek(self._starts[storage.key])
            data = file.read(storage.size * storage.dtype.itemsize)
        if len(data) != storage.size * storage.dtype.itemsize:
            raise UsageError(f"{self._path}: ends within {name}")
        values = np.frombuffer(data, storage.dtype)[tensor.offset :]
        strides = tuple(step * storage.dtype.itemsize for step in tensor.strides)
        return np.lib.stride_tricks.as_strided(values, tensor.shape, strides).copy()

    def _open(self, file: BinaryIO) -> Any:
        if zipfile.is_zipfile(file):
            return self._open_zip(file)
        file.seek(0)
        if tarfile.is_tarfile(file):
            raise self._fault("a tar of PyTorch before 0.1.10 (a later one can read and save it)")
        file.seek(0)
        return self._open_legacy(file)

    def _open_zip(self, file: BinaryIO) -> Any:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
                found = [name for name in entries if name.partition("/")[2] == "data.pkl"]
                if len(found) != 1:
                    raise self._fault("no data.pkl")
                folder = found[0].removesuffix("data.pkl")
                order = entries.get(f"{folder}byteorder")
                if order is not None and archive.read(order) != b"little":
                    raise self._fault("values in big-endian order")
                if entries[found[0]].file_size > MAX_PICKLE_BYTES:
                    raise self._fault(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
                unpickler = _Unpickler(io.BytesIO(archive.read(found[0])))
                root = self._load(unpickler)
                for storage in unpickler.storages.values():
                    entry = entries.get(f"{folder}data/{storage.key}")
                    if entry is None or entry.file_size != storage.size * storage.dtype.itemsize:
                        raise self._fault(f"no storage {storage.key} of {storage.size} values")
                    if entry.compress_type != zipfile.ZIP_STORED:
                        raise self._fault(f"storage {storage.key} is compressed")
                    with archive.open(entry):  # checks the local header, whose length varies
                        self._starts[storage.key] = file.tell()
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise self._fault(f"a damaged zip ({error})") from error
        return root

    def _open_legacy(self, file: BinaryIO) -> Any:
        if self._load(_Unpickler(file), "a file of torch.save") != _LEGACY_MAGIC:
            raise self._fault("another kind of file")
        protocol, about = self._load(_Unpickler(file)), self._load(_Unpickler(file))
        if protocol != _LEGACY_PROTOCOL:
            raise self._fault(f"protocol {protocol!r}")
        if not isinstance(about, dict) or about.get("little_endian") is not True:
            raise self._fault("values in big-endian order")
        unpickler = _Unpickler(file)
        root = self._load(unpickler)
        keys = self._load(_Unpickler(file))
        size = os.fstat(file.fileno()).st_size
        if not isinstance(keys, list) or set(map(str, keys)) != set(unpickler.storages):
            raise self._fault("a list of storages that does not fit its tensors")
        for key in map(str, keys):
            storage = unpickler.storages[key]
            if int.from_bytes(file.read(8), "little") != storage.size:
                raise self._fault(f"no storage {key} of {storage.size} values")
            self._starts[key] = file.tell()
            end = file.tell() + storage.size * storage.dtype.itemsize
            if end > size:
                raise self._fault(f"the end of the file within storage {key}")
            file.seek(end)
        return root

    def _load(self, unpickler: _Unpickler, expected: str = "tensors") -> Any:
        try:
            return unpickler.load()
        except pickle.UnpicklingError as error:
            raise self._fault(str(error), expected) from error
        except Exception as error:  # whatever a damaged pickle makes of itself
            raise self._fault(f"a damaged pickle ({type(error).__name__})", expected) from error

    def _fault(self, got: str, expected: str = "a file of torch.save") -> UsageError:
        return UsageError(f"{self._path}: expected {expected}, got {got}")


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries, numbers, texts and tensors, and calls nothing else."""

    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in _REBUILDERS:
            return _REBUILDERS[name]
        if module == "torch" and name in _DTYPES:
            return _Kind(_DTYPES[name])
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, size, *view = pid
        if what != "storage" or not isinstance(kind, _Kind) or any(v is not None for v in view):
            raise pickle.UnpicklingError(f"a reference to {what!r}")
        storage = _Storage(kind.dtype, str(key), _count(size))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {storage.key} twice")
        return storage


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without storage")
    shape, strides = tuple(map(_count, shape)), tuple(map(_count, strides))
    last = _count(offset) + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    size = math.prod(shape)
    if len(shape) > MAX_DIMENSIONS or size > storage.size or (size and last >= storage.size):
        raise pickle.UnpicklingError(f"a tensor {list(shape)} beyond its storage")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_REBUILDERS = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_parameter": _rebuild_parameter,
}


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise pickle.UnpicklingError(f"{value!r} as a number of values")
    return value


def _named(value: Any) -> str:
    return "a tensor" if isinstance(value, _Tensor) else type(value).__name__
