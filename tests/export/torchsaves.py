"""Files as torch.save and safetensors write them, made without PyTorch."""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


class Stored:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, array: np.ndarray, key: str) -> None:
        self.array, self.key = array, key

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        hooks: dict = collections.OrderedDict()
        return rebuild, (Reference(self), 0, self.array.shape, strides, False, hooks)


class Reference:
    def __init__(self, tensor: Stored) -> None:
        self.tensor = tensor


class Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, view: tuple) -> None:
        super().__init__(file, 2)
        self.view = view

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Reference):
            return None
        array = value.tensor.array
        kind = getattr(sys.modules["torch"], STORAGES[array.dtype.str[1:]])
        return ("storage", kind, value.tensor.key, "cpu", array.size, *self.view)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the names that such pickles mention."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def rebuild() -> None: ...

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(value: Any, *, view: tuple = ()) -> bytes:
    content = io.BytesIO()
    Pickler(content, view).dump(value)
    return content.getvalue()


def stored(arrays: dict[str, np.ndarray]) -> dict[str, Stored]:
    keys = enumerate(arrays.items())
    return collections.OrderedDict((name, Stored(value, str(i))) for i, (name, value) in keys)


def data_of(array: np.ndarray) -> bytes:
    """A storage's bytes: in the order in which they lie in memory."""
    return array.tobytes("A")


def save_zip(path: Path, arrays: dict[str, np.ndarray], root: Any = None) -> Path:
    tensors = stored(arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(tensors if root is None else root))
        archive.writestr("archive/byteorder", "little")
        for tensor in tensors.values():
            archive.writestr(f"archive/data/{tensor.key}", data_of(tensor.array))
    return path


def save_legacy(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    tensors = stored(arrays)
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    content = pickled(MAGIC) + pickled(1001) + pickled(about) + pickled(tensors, view=(None,))
    order = sorted(tensors.values(), key=lambda tensor: tensor.key, reverse=True)
    content += pickled([tensor.key for tensor in order])
    for tensor in order:
        content += tensor.array.size.to_bytes(8, "little") + data_of(tensor.array)
    path.write_bytes(content)
    return path


def save_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = path.with_suffix(".safetensors")
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)
    return path


SAVERS = {"zip": save_zip, "legacy": save_legacy, "safetensors": save_safetensors}
