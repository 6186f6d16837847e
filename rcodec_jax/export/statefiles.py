"""Public state dictionaries in, .npz of our measures out: what importing their weights shares."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.export.repository import Tensors
from rcodec_jax.export.torchfile import TorchFile
from rcodec_jax.files import atomic_write


class StateFiles:
    """The tensors of several files by name, read one at a time.

    Args:
      paths: .safetensors, or what `torch.save` wrote.
      measure: whose weights they are, as said in errors.
      place: what of a tensor's name says where in a module a backbone lies; it becomes "features.".
      once: beginnings of the names that only one file may have.

    Raises:
      UsageError: a file that cannot be read, or such a name in two of them.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        measure: str,
        *,
        place: str | None = None,
        once: tuple[str, ...] = ("",),
    ) -> None:
        self.measure = measure
        self._where: dict[str, tuple[Tensors | TorchFile, str]] = {}
        for path in map(Path, paths):
            held = Tensors([path]) if path.suffix == ".safetensors" else TorchFile(path)
            for stored in held.shapes:
                name = re.sub(place, "features.", stored) if place else stored
                if name in self._where and name.startswith(once):
                    raise UsageError(f"{path}: expected each tensor once, got {name} again")
                self._where[name] = held, stored

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __len__(self) -> int:
        return len(self._where)

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor, None if there is none of that name."""
        if name not in self._where:
            return None
        held, stored = self._where[name]
        return held.shapes[stored]

    def take(self, name: str, shape: tuple[int, ...], whose: str) -> np.ndarray:
        """A tensor in float32; `whose` says where it comes from, where there is none.

        Raises UsageError: no such tensor, another shape, or values that are not finite.
        """
        given = self.shape_of(name)
        if given is None:
            raise UsageError(f"{self.measure}: expected the tensor {name} ({whose}), got none")
        if given != shape:
            raise UsageError(
                f"{self.measure}: {name}: expected shape {list(shape)}, got {list(given)}"
            )
        held, stored = self._where[name]
        value = held.read(stored).astype(np.float32)
        if not np.isfinite(value).all():
            raise UsageError(f"{self.measure}: {name}: expected finite values, got others")
        return value

    def take_layer(self, name: str, shape: tuple[int, ...], whose: str) -> np.ndarray:
        """A kernel where `shape` has four sides, a tensor as it is where it has not."""
        take = self.take_kernel if len(shape) == 4 else self.take
        return take(name, shape, whose)

    def take_weights(self, name: str, shape: tuple[int, ...], whose: str) -> np.ndarray:
        """Weights of channels [C], of one [1, C, 1, 1]."""
        return self.take(name, (1, *shape, 1, 1), whose).reshape(shape)

    def take_kernel(self, name: str, shape: tuple[int, ...], whose: str) -> np.ndarray:
        """A kernel [kh, kw, cin, cout], which is `shape`, of one [cout, cin, kh, kw]."""
        kh, kw, cin, cout = shape
        return self.take(name, (cout, cin, kh, kw), whose).transpose(2, 3, 1, 0)


def free_place(out: str | os.PathLike[str], name: str, *, force: bool) -> Path:
    """Where the file goes; raises UsageError if it is there already, without `force`."""
    file = Path(out) / name
    if file.exists() and not force:
        raise UsageError(f"{file}: exists already (--force overwrites it)")
    return file


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """Writes an .npz, with its folder; returns the number of values."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{file.parent}: cannot be made: {error.strerror or error}") from error
    atomic_write(file, content.getvalue())
    return sum(value.size for value in arrays.values())
