"""Programs that are kept compiled between processes, so that a short command traces nothing.

JAX's persistent cache spares compiling, but a network is traced through Flax and lowered before
that cache can be asked: half of a short command, imports included. Here the executable of a
function is kept under the shapes of its arguments and all else that it follows from. A file that
does not fit is made again. On CPUs alone: accelerators have not been tried.

Files are machine code, as those of JAX's cache beside them are: the folder is the user's own.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jaxlib.version import __version__ as jaxlib_version

from rcodec_jax import __version__
from rcodec_jax.errors import UsageError
from rcodec_jax.files import atomic_write
from rcodec_jax.model.compiling import compiler_options

FOLDER = "rcodec-executables"
"""Inside the folder of JAX's persistent cache; nothing is kept where that is off."""

_SOURCES = (
    "nn",
    "ops",
    "diffusion",
    "model/compiling.py",
    "model/descent.py",
    "model/networks.py",
    "model/objective.py",
    "model/relaxed.py",
    "model/structure.py",
    "codec/inference.py",
    "codec/refine.py",
    "levels.py",
    "passes.py",
)
"""What a network's program follows from, of this package: a change makes programs anew."""

_CHECKSUM = 32
"""Bytes in front of a file: SHA-256 of the others, since damaged machine code would not say so."""

Options = Callable[[], dict[str, Any]]


class Program:
    """A pure function compiled for each shape of its arguments.

    Args:
      function: takes dictionaries of arrays and arrays.
      key: what it follows from besides this package's code and the arguments' shapes: the network's
        name, the model's configuration.
      result: anything of the structure of what the function returns; by default one array.
      options: gives `compiler_options` of `jax.jit`; asked only where something is compiled.
      donated: numbers of arguments that the result may overwrite.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        key: str,
        *,
        result: Any = 0,
        options: Options = compiler_options,
        donated: tuple[int, ...] = (),
    ) -> None:
        self._function, self._key, self._options = function, key, options
        self._result, self._donated = jax.tree.structure(result), donated
        self._made: dict[str, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        shapes = f"{structure} {[(leaf.shape, str(leaf.dtype)) for leaf in leaves]}"
        with self._lock:
            if shapes not in self._made:
                self._made[shapes] = self._make(shapes, args)
        return self._made[shapes](*args)

    def _make(self, shapes: str, args: tuple[Any, ...]) -> Callable[..., Any]:
        folder = _folder()
        if folder is None or jax.default_backend() != "cpu":
            return self._jitted(self._function)
        facts = (self._key, shapes, str(self._result), _sources(), _machine())
        path = folder / hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return self._read(path, args) or self._write(path, args)

    def _jitted(self, function: Callable[..., Any]) -> Any:
        options = self._options()
        return jax.jit(function, donate_argnums=self._donated, compiler_options=options)

    def _read(self, path: Path, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        try:
            blob = path.read_bytes()
            checksum, content = blob[:_CHECKSUM], blob[_CHECKSUM:]
            if hashlib.sha256(content).digest() != checksum:
                return None
            given = jax.tree.structure((args, {}))
            return serialize_executable.deserialize_and_load(
                content, given, self._result, execution_devices=jax.local_devices()[:1]
            )
        except Exception:  # no file, or whatever another version of JAX makes of it
            return None

    def _write(self, path: Path, args: tuple[Any, ...]) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            return self._function(*args)

        # What JAX read from its own cache lacks its functions once it is written again, and says so
        # only when it runs. A name that the cache has never seen is compiled for certain.
        function.__name__ = f"program_{secrets.token_hex(8)}"
        compiled: jax.stages.Compiled = self._jitted(function).lower(*args).compile()
        try:
            content = serialize_executable.serialize(compiled)[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, hashlib.sha256(content).digest() + content)
        except (OSError, UsageError, ValueError, NotImplementedError, pickle.PicklingError):
            pass  # a cache is never worth an error
        return compiled


def _cache_dir() -> str | None:
    return getattr(jax.config, "jax_compilation_cache_dir", None)


def _folder() -> Path | None:
    folder = _cache_dir()
    # A bucket of a cloud's storage is no path.
    return Path(folder) / FOLDER if folder and "://" not in folder else None


@functools.cache
def _sources() -> str:
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in _SOURCES:
        place = root / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _machine() -> str:
    """What else machine code follows from: versions, the processor, how JAX was set up."""
    chosen = [os.environ.get(name, "") for name in ("XLA_FLAGS", "NPROC", "PJRT_NPROC")]
    names = "jax_enable_x64", "jax_default_matmul_precision", "jax_disable_most_optimizations"
    config = [jax.config.values[name] for name in names]
    versions = (__version__, jax.__version__, jaxlib_version)
    return repr((versions, _processor(), jax.local_device_count(), chosen, config))


@functools.cache
def _processor() -> str:
    """Names the processor's instructions, where the system says them."""
    names = ("flags", "Features")  # x86 and ARM
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = next((line for line in lines if line.startswith(names)), platform.processor())
    return f"{platform.machine()} {told}"
