"""Runs exported programs with jax, NumPy and safetensors alone: no flax, no rcodec.

This file lies beside the programs, so that the folder is all that is needed:

    from rcodec_programs import ExportedModel
    programs = ExportedModel("folder")
    (y,) = programs.call("encoder", image)            # float32 [B, H, W, 3] in -1..1
    image = programs.decode(x, level_map, levels_t)   # dequantised latent to picture

Of a frozen model `rcodec_symbols.py` beside it makes x of the integers of a file, see there.

    python rcodec_programs.py [FOLDER]                # calls every program once on noise

`manifest.json` lists inputs, outputs and weights of every program; as arguments the weights come
first, in that order.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import struct
import sys
import types
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ENDING = ".jax_export"
FORMAT = "rcodec programs"
VERSION = 0
EXTENDED = 16
"""Cells to multiples of which pictures are extended, as the package does up to 128 a side."""


class ExportedModel:
    """The programs of a folder, each loaded with its weights when it is first called.

    Attributes:
      manifest: what `manifest.json` says.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        found = (self.manifest.get("format"), self.manifest.get("version"))
        if found != (FORMAT, VERSION):
            raise ValueError(f"expected {FORMAT} of version {VERSION}, got {found}")
        self._loaded: dict[str, tuple] = {}
        self._weights: Path | None = None

    def call(self, name: str, *inputs: np.ndarray | jax.Array) -> tuple[jax.Array, ...]:
        """Calls a program.

        Args:
          name: encoder, hyper_analysis, step or decoder.
          inputs: in the manifest's order, of any batch, height and width that its shapes allow.

        Returns:
          The outputs in the manifest's order.

        Raises:
          ValueError: the program or the weights are not those that the manifest describes.
        """
        function, weights = self._load(name)
        ports = self.manifest["programs"][name]["inputs"]
        if len(inputs) != len(ports):
            raise TypeError(f"{name} takes {[port['name'] for port in ports]}, got {len(inputs)}")
        arrays = [jnp.asarray(x, p["dtype"]) for x, p in zip(inputs, ports, strict=True)]
        return tuple(function(weights, *arrays))

    def decode(
        self,
        x: np.ndarray,
        level_map: np.ndarray,
        levels_t: np.ndarray,
        *,
        steps: int = 1,
        prior: np.ndarray | None = None,
        dither: np.ndarray | None = None,
    ) -> jax.Array:
        """Dequantised latent to picture, every cell from its own timestep ("proportional").

        Args:
          x: float32 [B, h, w, C].
          level_map: integers [B, h, w].
          levels_t: timesteps of the 16 levels [B, 16], 0..999.
          steps: evaluations of the denoiser.
          prior: float32 [B, h, w, 2C], for models whose denoiser sees it.
          dither: of the latent, -1/2..1/2 [B, h, w, C], for models whose decoder is given it.

        Returns:
          float32 [B, 8h, 8w, 3], about -1..1.
        """
        clean = now = jnp.asarray(x)
        given = () if prior is None else (prior,)
        for i in range(steps):
            t, after = ((1.0 - n / steps) * np.asarray(levels_t, np.float64) for n in (i, i + 1))
            _, clean, now, *features = self.call("step", now, t, after, level_map, *given)
        hints = [] if dither is None else [*features, jnp.asarray(dither)]
        return self.call("decoder", clean, *hints)[0]

    def picture(
        self,
        x: np.ndarray,
        prior: np.ndarray,
        levels_t: np.ndarray,
        dither: np.ndarray,
        level_map: np.ndarray,
        *,
        size: tuple[int, int],
        steps: int | None = None,
    ) -> np.ndarray:
        """One picture in pixels: `decode` of what is mirrored at the lower and the right edge.

        Args:
          x, prior, levels_t, dither: what `rcodec_symbols.Dequantiser` gives.
          level_map: integers [h, w].
          size: height and width in pixels.
          steps: evaluations of the denoiser; None for the model's own number.

        Returns:
          uint8 [H, W, 3], the package's own picture but for what the last bits of floats change;
          with sides above 1536 px, which the package does in tiles, also but for these.
        """
        unit = max(EXTENDED, self.manifest["multiples"]["cells"])
        sides = [(0, -side % unit) for side in level_map.shape]
        x, prior, dither = (
            np.pad(a, [*sides, (0, 0)], mode="symmetric")[None] for a in (x, prior, dither)
        )
        level_map = np.pad(level_map, sides, mode="symmetric")[None]
        model = self.manifest["model"]
        given = prior if model["unet"]["prior"] else None
        steps = model["steps"] if steps is None else steps
        seen = dither if len(self.manifest["programs"]["decoder"]["inputs"]) > 1 else None
        image = self.decode(x, level_map, levels_t[None], steps=steps, prior=given, dither=seen)
        pixels = np.rint(np.clip(np.asarray(image[0]) * 127.5 + 127.5, 0, 255)).astype(np.uint8)
        return pixels[: size[0], : size[1]]

    def _load(self, name: str) -> tuple:
        if name not in self._loaded:
            entry = self.manifest["programs"][name]
            data = (self.folder / entry["file"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError(f"{entry['file']} is not the one that the manifest describes")
            exported = _deserialized(data)
            with safe_open(self._checked_weights(), "np") as file:
                weights = {
                    key: jnp.asarray(file.get_tensor(key), dtype)
                    for key, dtype in entry["weights"].items()
                }
            self._loaded[name] = (jax.jit(exported.call), weights)
        return self._loaded[name]

    def _checked_weights(self) -> Path:
        """The file of weights, read through once: weights of another export would run as well."""
        if self._weights is None:
            entry = self.manifest["weights"]
            path = self.folder / entry["file"]
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != entry["sha256"]:
                raise ValueError(f"{entry['file']} is not the one that the manifest describes")
            self._weights = path
        return self._weights


def _deserialized(data: bytes) -> jax.export.Exported:
    """A program as `jax.export` serialises it.

    JAX reads it with the package flatbuffers, which it does not bring along; where that is missing,
    `_Table` and what is around it here take its place.
    """
    try:
        importlib.import_module("flatbuffers")
    except ImportError:
        sys.modules |= {module.__name__: module for module in _flatbuffers()}
    try:
        return jax.export.deserialize(bytearray(data))
    finally:
        for module in _flatbuffers():  # others look there to find out whether it is installed
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


@functools.cache
def _flatbuffers() -> tuple[types.ModuleType, ...]:
    """Modules with what code that the compiler of FlatBuffers generated needs for reading."""

    def module(name: str, **members: object) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(members)
        return made

    sizes = {1: ("b", "B"), 2: ("h", "H"), 4: ("i", "I"), 8: ("q", "Q")}
    numbers = {"Bool": _Number("?", bool), "UOffsetT": _Number("<I", int)}
    for size, (signed, unsigned) in sizes.items():
        numbers[f"Int{8 * size}"] = _Number(f"<{signed}", int)
        numbers[f"Uint{8 * size}"] = _Number(f"<{unsigned}", int)
    flags = {f"{name}Flags": number for name, number in numbers.items()}
    parts = {
        "compat": module("flatbuffers.compat", import_numpy=lambda: np),
        "encode": module("flatbuffers.encode", Get=lambda fmt, data, at: fmt.read(data, at)),
        "number_types": module("flatbuffers.number_types", **flags),
        "packer": module("flatbuffers.packer", uoffset=numbers["UOffsetT"]),
        "table": module("flatbuffers.table", Table=_Table),
    }
    return module("flatbuffers", Builder=object, __path__=[], **parts), *parts.values()


@dataclasses.dataclass(frozen=True)
class _Number:
    """A kind of number: its format in bytes, and what Python makes of it."""

    fmt: str
    py_type: type

    def read(self, data: bytearray, at: int) -> int:
        return self.py_type(struct.unpack_from(self.fmt, data, at)[0])


class _Table:
    """A table of FlatBuffers: fields by their place in its vtable, offsets from where they stand.

    The names are those that generated code calls.
    """

    def __init__(self, data: bytearray, at: int) -> None:
        self.Bytes, self.Pos = data, at

    def Offset(self, field: int) -> int:  # noqa: N802
        """Where a field is, from the table's start; 0 for one that is not there."""
        vtable = self.Pos - _Number("<i", int).read(self.Bytes, self.Pos)
        short = _Number("<H", int)
        there = field < short.read(self.Bytes, vtable)
        return short.read(self.Bytes, vtable + field) if there else 0

    def Indirect(self, at: int) -> int:  # noqa: N802
        """Where an offset leads to."""
        return at + _Number("<I", int).read(self.Bytes, at)

    def String(self, at: int) -> bytes:  # noqa: N802
        """A string that an offset leads to."""
        at = self.Indirect(at)
        length = _Number("<I", int).read(self.Bytes, at)
        return bytes(self.Bytes[at + 4 : at + 4 + length])

    def VectorLen(self, field: int) -> int:  # noqa: N802
        """Number of elements."""
        return _Number("<I", int).read(self.Bytes, self.Indirect(self.Pos + field))

    def Vector(self, field: int) -> int:  # noqa: N802
        """Where the first element is."""
        return self.Indirect(self.Pos + field) + 4

    def Get(self, number: _Number, at: int) -> int:  # noqa: N802
        """A number."""
        return number.read(self.Bytes, at)

    def GetVectorAsNumpy(self, number: _Number, field: int) -> np.ndarray:  # noqa: N802
        """The elements as an array."""
        where = self.VectorLen(field), self.Vector(field)
        return np.frombuffer(self.Bytes, np.dtype(number.fmt), *where)


def main(folder: Path) -> None:
    """Calls every program on noise and prints the shapes."""
    programs = ExportedModel(folder)
    rng = np.random.default_rng(0)
    for name, entry in programs.manifest["programs"].items():
        inputs = []
        for port in entry["inputs"]:
            shape = [_side(side) for side in port["shape"]]
            whole = port["dtype"] == "int32"
            inputs.append(np.zeros(shape) if whole else rng.standard_normal(shape))
        outputs = programs.call(name, *inputs)
        shapes = [f"{port['name']} {list(port['shape'])}" for port in entry["inputs"]]
        print(f"{name}: {', '.join(shapes)} -> {[out.shape for out in outputs]}")


def _side(side: int | str) -> int:
    """A side of the manifest's shapes, such as 64*h, where b = h = w = 1."""
    return side if isinstance(side, int) else int(side.rpartition("*")[0] or 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
