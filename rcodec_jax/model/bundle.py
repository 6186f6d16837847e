"""A bundle on disk: what encode and decode load.

    bundle.json            model configuration, digests, scaling of the latent, card
    integer.safetensors    integer part: everything that steers the entropy decoder
    float.safetensors      float networks in half precision, large kernels in 8 bits if so chosen
    training.safetensors   what only training needs to go on from here; may be missing

Nothing in it can execute; everything is checked when it is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from rcodec_jax.config import from_dict, to_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.entropy import IntegerPart
from rcodec_jax.errors import BundleError, RcodecError, UsageError
from rcodec_jax.files import write_json
from rcodec_jax.model import eightbit
from rcodec_jax.model.ends import FIDELITY, REALISM
from rcodec_jax.model.tensorstream import as_bytes, read_header, read_tensor, write_tensors
from rcodec_jax.model.trees import flatten, unflatten

SHIPPED = "shipped"
"""Names the model that ships with the package, wherever one is asked for."""

MANIFEST = "bundle.json"
INTEGER = "integer.safetensors"
FLOAT = "float.safetensors"
TRAINING = "training.safetensors"
BUNDLE_VERSION = 0
FLOAT_PARTS = ("encoder", "decoder", "unet", "hyper_analysis")
"""Parts of the parameters that stay floats; the others became integers."""

OPTIONAL_PARTS = (FIDELITY, REALISM)
"""Float parts that a model may have besides."""

BITS = (8, 16)
"""What large kernels can be stored in."""

MAX_INTEGER_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle.

    Attributes:
      config: the model's shape.
      integers: its integer part.
      params: float parameters by part, nested dictionaries. They have the values that are stored,
        whatever reads them: float16, and float32 where a kernel is stored in 8 bits.
      shift, scale: float32 [C]; y = (encoder output - shift) * scale.
      float_digest: 4 bytes, names the float part and the configuration.
      card: name, recipe and figures, as stored.
      folder: where it was read from.
      bits: 8 if kernels are stored in 8 bits, else 16.
    """

    config: ModelConfig
    integers: IntegerPart
    params: dict[str, Any]
    shift: np.ndarray
    scale: np.ndarray
    float_digest: bytes
    card: dict[str, Any]
    folder: Path
    bits: int = 16

    @property
    def power(self) -> float:
        """Mean variance of the encoder's output, scale ** -2: what training goes on from.

        Raises:
          BundleError: the channels' scales differ, which training cannot express.
        """
        scale = float(self.scale[0])
        if not (0 < scale < np.inf and (self.scale == scale).all()):
            raise BundleError(
                f"expected one scale above 0 for all channels of the latent, got {self.scale}"
            )
        return scale**-2


def save_bundle(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    integers: IntegerPart,
    params: dict[str, Any],
    shift: np.ndarray,
    scale: np.ndarray,
    card: dict[str, Any],
    training: dict[str, np.ndarray] | None = None,
    *,
    bits: int = 16,
) -> None:
    """Writes a bundle.

    Args:
      folder: made if it is missing.
      config, integers, params, shift, scale, card: the attributes of `Bundle`; `params` in any
        float precision, its leaves turned into arrays one at a time.
      training: float arrays that `unfreezing` needs and decoding does not.
      bits: 8 stores large kernels in 8 bits, see `eightbit`; 16 all floats in half precision.

    Raises:
      UsageError: other bits.
      BundleError: a parameter that is not finite in half precision.
    """
    if bits not in BITS:
        raise UsageError(f"expected floats in 8 or 16 bits, got {bits}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FLOAT}.part"
    try:
        digest = _write_floats(part, params, {"shift": shift, "scale": scale}, bits)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    integer_blob = integers.to_bytes()
    model = to_dict(config)
    manifest = {
        "bundle_version": BUNDLE_VERSION,
        "integer_digest": integers.digest.hex(),
        "float_digest": _float_digest(digest, model).hex(),
        "model": model,
        "card": card,
    }
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / INTEGER).write_bytes(integer_blob)
    os.replace(part, folder / FLOAT)
    if training is not None:
        (folder / TRAINING).write_bytes(safetensors.numpy.save(training))
    # Last, so that a folder with a manifest is a whole bundle.
    write_json(folder / MANIFEST, manifest)


def load_bundle(folder: str | os.PathLike[str] | None = None) -> Bundle:
    """Reads a bundle.

    Args:
      folder: the bundle; None or `SHIPPED` for the one that ships with the package.

    Raises:
      BundleError: no bundle there, or a damaged one.
    """
    path = shipped_bundle() if folder is None else located(folder)
    manifest = _read_manifest(path)
    try:
        config = from_dict(ModelConfig, manifest["model"])
        integer_digest = bytes.fromhex(manifest["integer_digest"])
        float_digest = bytes.fromhex(manifest["float_digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    integers = load_integers(path)
    if integers.digest != integer_digest:
        raise BundleError(
            f"{path / INTEGER}: expected digest {integer_digest.hex()}, got {integers.digest.hex()}"
        )
    arrays, found = _read_floats(path / FLOAT, manifest["model"])
    if found != float_digest:
        raise BundleError(
            f"{path / FLOAT} and the model in {MANIFEST}: expected digest {float_digest.hex()}, "
            f"got {found.hex()}"
        )
    try:
        shift, scale = (np.asarray(arrays.pop(f"latent/{name}")) for name in ("shift", "scale"))
    except KeyError as error:
        raise BundleError(f"{path / FLOAT}: no tensor {error}") from error
    if not shift.shape == scale.shape == (config.latent_channels,):
        raise BundleError(f"{path / FLOAT}: latent shift and scale do not fit the model")
    if not shift.dtype == scale.dtype == np.float32:
        raise BundleError(f"{path / FLOAT}: expected latent shift and scale in float32")
    channels = (integers.latent_channels, integers.hyper_channels)
    expected = (config.latent_channels, config.hyper.hyper_channels)
    if channels != expected:
        raise BundleError(
            f"{path}: the configuration has {expected} channels of latent and hyper-latent, "
            f"the integer part {channels}"
        )
    if config.hyper.centroids != (integers.centroids is not None):
        raise BundleError(f"{path}: configuration and integer part do not agree on centroids")
    try:
        bits = 8 if eightbit.restore_all(arrays) else 16
    except BundleError as error:
        raise BundleError(f"{path / FLOAT}: {error}") from error
    _check_names(path / FLOAT, arrays)
    card = manifest.get("card", {})
    if not isinstance(card, dict):
        raise BundleError(f"{path / MANIFEST}: expected a card that is an object")
    params = unflatten(arrays)
    return Bundle(config, integers, params, shift, scale, float_digest, card, path, bits)


def load_integers(folder: str | os.PathLike[str]) -> IntegerPart:
    """Reads only the integer part of a bundle folder; needs no JAX.

    Raises:
      BundleError: missing or damaged.
    """
    return load_integer_file(located(folder) / INTEGER)


def load_integer_file(path: Path) -> IntegerPart:
    """Reads an integer part from a file.

    Raises:
      BundleError: missing, too large or damaged.
    """
    if path.is_file() and path.stat().st_size > MAX_INTEGER_BYTES:
        raise BundleError(f"{path}: an integer part of more than {MAX_INTEGER_BYTES} bytes")
    blob = _read(path)
    try:
        return IntegerPart.from_bytes(blob)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def find_stored_integers(
    digest: bytes, store: str | os.PathLike[str] | None = None
) -> IntegerPart | None:
    """The integer part of that digest, if it ships with the package; needs no JAX.

    Released models' parts are kept for ever, each in a file named by its digest, so that symbols
    of old files always decode.

    Args:
      digest: 8 bytes, as a file names its model.
      store: folder of `<digest in hexadecimal>.safetensors`; None for the one that ships.

    Returns:
      The part, None where there is none of that digest.

    Raises:
      BundleError: there is a file of that name, but it is damaged or another part.
    """
    path = stored_integers(digest, store)
    if path.is_file():
        part = load_integer_file(path)
        if part.digest != digest:
            raise BundleError(f"{path}: expected digest {digest.hex()}, got {part.digest.hex()}")
        return part
    for manifest in sorted(assets().glob(f"*/{MANIFEST}")):
        if _read_manifest(manifest.parent).get("integer_digest") == digest.hex():
            part = load_integers(manifest.parent)
            if part.digest == digest:
                return part
    return None


def assets() -> Path:
    """The folder of the models that ship with the package."""
    return Path(str(importlib.resources.files("rcodec_jax"))) / "assets"


def integer_store() -> Path:
    """The folder of integer parts of all released models, by digest."""
    return assets() / "integer"


def stored_integers(digest: bytes, store: str | os.PathLike[str] | None = None) -> Path:
    """Where a store keeps the integer part of a digest, whether it is there or not."""
    return (integer_store() if store is None else Path(store)) / f"{digest.hex()}.safetensors"


def shipped_bundle() -> Path:
    """The bundle that ships with the package."""
    return assets() / "tiny"


def located(folder: str | os.PathLike[str]) -> Path:
    """A folder as it is; where there is none of that name, `SHIPPED` is the shipped bundle."""
    path = Path(folder)
    return shipped_bundle() if os.fspath(folder) == SHIPPED and not path.exists() else path


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).exists():
        floats = any((folder / name).exists() for name in ("checkpoints", "weights.json"))
        way = " ('rcodec freeze' makes a bundle of it)" if floats else ""
        raise BundleError(
            f"expected the folder of a bundle, with its {MANIFEST}, got {str(folder)!r}{way}"
        )
    try:
        manifest = json.loads(_read(folder / MANIFEST))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST}: not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{folder / MANIFEST}: expected an object")
    if manifest.get("bundle_version") != BUNDLE_VERSION:
        raise BundleError(
            f"{folder / MANIFEST}: expected bundle version {BUNDLE_VERSION}, "
            f"got {manifest.get('bundle_version')!r}"
        )
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"{path}: cannot be read: {reason}") from error


def _write_floats(
    path: Path, params: dict[str, Any], latent: dict[str, np.ndarray], bits: int
) -> Any:
    """Writes the float part one tensor at a time and returns the SHA-256 of the file so far."""
    parts = [part for part in FLOAT_PARTS + OPTIONAL_PARTS if part in params or part in FLOAT_PARTS]
    floats = flatten({part: params[part] for part in parts})
    shapes = {name: tuple(value.shape) for name, value in floats.items()}
    small = {name for name in floats if bits == 8 and eightbit.is_eligible(name, shapes[name])}
    # In the order of the safetensors library, widest first and by name; scales, which are known
    # when all kernels have been written, at the end.
    first = {f"latent/{name}": np.asarray(latent[name], np.float32) for name in sorted(latent)}
    names = sorted(floats, key=lambda name: (name in small, name))
    full, half, eight = (np.dtype(kind) for kind in (np.float32, np.float16, np.int8))
    tensors = {name: (full, tuple(array.shape)) for name, array in first.items()}
    tensors |= {name: (eight if name in small else half, shapes[name]) for name in names}
    tensors |= {f"{name}{eightbit.SCALE}": (half, shapes[name][-1:]) for name in sorted(small)}

    def arrays() -> Iterator[np.ndarray]:
        yield from first.values()
        scales = []
        for name in names:
            value = np.asarray(floats[name], np.float32)
            stored = _halves(name, value)
            if name in small:
                stored, scale = eightbit.quantise(value)
                scales.append(scale)
            yield stored
        yield from scales

    return write_tensors(path, tensors, arrays())


def _halves(name: str, value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # the check below says it better
        array = value.astype(np.float16)
    if not np.isfinite(array).all():
        raise BundleError(f"{name}: not finite in half precision")
    return array


def _read_floats(path: Path, model: Any) -> tuple[dict[str, Any], bytes]:
    """Tensors of the float part by name, as they are stored, and its digest, in one pass."""
    digest = hashlib.sha256()
    arrays: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            header, entries = read_header(file, path.stat().st_size)
            digest.update(header)
            for name, entry in entries.items():
                arrays[name] = read_tensor(file, entry)
                digest.update(as_bytes(arrays[name]))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RcodecError as error:
        raise BundleError(f"{path}: {error}") from error
    return arrays, _float_digest(digest, model)


def _check_names(path: Path, names: Iterable[str]) -> None:
    """Raises BundleError: a part that no model has, or a tensor that is a group of others too."""
    names = set(names)
    for name in sorted(names):
        groups = [name[:at] for at, letter in enumerate(name) if letter == "/"]
        if not groups or groups[0] not in FLOAT_PARTS + OPTIONAL_PARTS:
            raise BundleError(f"{path}: the model has no tensor {name}")
        for group in groups:
            if group in names:
                raise BundleError(f"{path}: {group} is a tensor, and so is {name} below it")


def _float_digest(tensors: Any, model: Any) -> bytes:
    """Names the float networks: their arrays and, as stored, the configuration that joins them.

    Args:
      tensors: SHA-256 of the file that holds the arrays, to go on from.
      model: the configuration as in the manifest.
    """
    shape = json.dumps(model, sort_keys=True, separators=(",", ":"))
    tensors.update(shape.encode())
    return bytes(tensors.digest()[:4])
