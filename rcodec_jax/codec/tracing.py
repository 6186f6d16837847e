"""Programs whose tracing is kept between processes, beside JAX's cache of what it compiled.

JAX's persistent cache saves compiling, but a network is traced through Flax and lowered before the
cache can be asked: a fifth of the time of a short command. Here a program is exported once for the
shapes of its arguments; later processes read that. A file that does not fit is made again. On CPUs
alone: exporting the kernels of accelerators has not been tried.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from rcodec_jax import __version__
from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write

FOLDER = "rcodec-programs"
"""Inside the folder of JAX's persistent cache; nothing is kept where that is off."""

_SOURCES = (
    "nn",
    "ops",
    "diffusion",
    "model/networks.py",
    "codec/inference.py",
    "levels.py",
    "passes.py",
)
"""What a network's program follows from, of this package: a change makes programs anew."""


class Program:
    """A pure function compiled for each shape of its arguments.

    Args:
      function: takes dictionaries of arrays and arrays, gives an array.
      key: what it follows from besides this package's code and the arguments' shapes: the network's
        name, the model's configuration.
      options: `compiler_options` of `jax.jit`.
    """

    def __init__(
        self, function: Callable[..., jax.Array], key: str, options: dict[str, Any]
    ) -> None:
        self._function, self._key, self._options = function, key, options
        self._made: dict[str, Callable[..., jax.Array]] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> jax.Array:
        leaves, structure = jax.tree.flatten(args)
        shapes = f"{structure} {[(leaf.shape, str(leaf.dtype)) for leaf in leaves]}"
        with self._lock:
            if shapes not in self._made:
                self._made[shapes] = self._make(shapes, args)
        return self._made[shapes](*args)

    def _make(self, shapes: str, args: tuple[Any, ...]) -> Callable[..., jax.Array]:
        plain = jax.jit(self._function, compiler_options=self._options)
        folder = _folder()
        if folder is None or jax.default_backend() != "cpu":
            return plain
        facts = (__version__, jax.__version__, self._key, shapes, _sources())
        path = folder / hashlib.sha256("\n".join(facts).encode()).hexdigest()
        exported = _read(path)
        if exported is None:
            exported = export.export(plain)(*args)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                atomic_write(path, bytes(exported.serialize()))
            except (OSError, UsageError):
                return plain  # a cache is never worth an error
        # What is compiled has to be the same each time, for JAX's own cache to know it.
        return jax.jit(exported.call, compiler_options=self._options)


def _cache_dir() -> str | None:
    return getattr(jax.config, "jax_compilation_cache_dir", None)


def _folder() -> Path | None:
    folder = _cache_dir()
    # A bucket of a cloud's storage is no path.
    return Path(folder) / FOLDER if folder and "://" not in folder else None


def _read(path: Path) -> export.Exported | None:
    try:
        return export.deserialize(bytearray(path.read_bytes()))
    except Exception:  # no file, or whatever a damaged one makes of it
        return None


@functools.cache
def _sources() -> str:
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in _SOURCES:
        place = root / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
