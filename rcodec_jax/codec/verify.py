"""The proof across devices: files with the hashes of their symbols, and checking them elsewhere.

A set is a folder with files, the pictures that its maker decoded them to, and a manifest:

    {"integer_digest": ..., "float_digest": ..., "made_with": {...},
     "files": {"name.rdc": {"file": sha256, "size": [H, W], "levels": sha256, "z": ..., "j": ...,
                            "mean": ..., "log2_sigma": ...,
                            "picture": {"name": "name.png", "file": sha256}}}}

The hashes of symbols are SHA-256 of little-endian int32 in raster order: `levels` is the node of
every cell, `mean` and `log2_sigma` the prior that the integer network gives. They must agree
exactly, which needs no JAX; pictures come from floats and agree within a tolerance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcodec_jax.bitstream import Header
from rcodec_jax.codec.symbols import read_file, symbols_of
from rcodec_jax.entropy import IntegerPart
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.files import write_json
from rcodec_jax.progress import Progress, no_progress

MANIFEST = "verify.json"
SYMBOLS = ("levels", "z", "j", "mean", "log2_sigma")
"""What is hashed of a file's contents."""

MAX_DIFFERENCE = 2
"""Tolerance between devices: most that a value of a pixel may differ by, of 255."""

MAX_SHARE = 0.02
"""Tolerance between devices: largest share of a picture's values that may differ at all."""

_SMALL_VALUES = 3 * 64 * 64
"""Below so many values a share says little: a few may always differ."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A picture to encode.

    Attributes:
      name: of the file, without its extension.
      pixels: uint8 [H, W, 3].
      importance: float32 [H, W] in 0..1, or None.
      quality: 0..100.
      resampling: 1, or 2 for half the width and height.
    """

    name: str
    pixels: np.ndarray
    importance: np.ndarray | None
    quality: float
    resampling: int = 1


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two pictures are apart.

    Attributes:
      largest: difference of any value, of 255.
      mean: absolute difference over all values.
      share: of the values, those that differ.
      values: how many there are.
    """

    largest: int
    mean: float
    share: float
    values: int

    @property
    def within_tolerance(self) -> bool:
        """Whether this is what devices may differ by."""
        few = self.values * self.share <= MAX_SHARE * max(self.values, _SMALL_VALUES)
        return self.largest <= MAX_DIFFERENCE and few


@dataclasses.dataclass(frozen=True)
class Check:
    """What came of one file.

    Attributes:
      name: of the file.
      problems: what did not agree, in words; empty if all did.
      picture: difference to the stored picture, None where it was not looked at.
    """

    name: str
    problems: tuple[str, ...]
    picture: Difference | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a set says of itself.

    Attributes:
      folder: where it lies.
      integer_digest, float_digest: of the model, in hexadecimal.
      made_with: versions and device of its maker, as plain data.
      files: what is recorded of each file, by name.
    """

    folder: Path
    integer_digest: str
    float_digest: str
    made_with: dict[str, Any]
    files: dict[str, dict[str, Any]]


def make_cases(pictures: Mapping[str, np.ndarray]) -> list[Case]:
    """Pictures -> cases that cover maps and rates: uniform, a box, a slope, and halved.

    Args:
      pictures: uint8 [H, W, 3] by name.
    """
    cases = []
    for name, pixels in pictures.items():
        height, width = pixels.shape[:2]
        box = np.zeros((height, width), np.float32)
        box[height // 4 : height // 4 + (height + 1) // 2, width // 4 : (3 * width + 3) // 4] = 1
        steps = np.linspace(0, 1, width, dtype=np.float32)
        slope = np.ascontiguousarray(np.broadcast_to(steps, (height, width)))
        for kind, importance, quality, resampling in (
            ("coarse", None, 15.0, 1),
            ("box", box, 50.0, 1),
            ("slope", slope, 90.0, 1),
            ("halved", None, 60.0, 2),
        ):
            cases.append(Case(f"{name}-{kind}", pixels, importance, quality, resampling))
    return cases


def symbol_hashes(data: bytes, find_part: Callable[[Header], IntegerPart]) -> dict[str, Any]:
    """What a file decodes to, as a manifest records it; needs no JAX.

    Args:
      data: the whole file.
      find_part: gives the integer part of its model.

    Raises:
      BitstreamError: a damaged file or one of another model.
    """
    container = read_file(data)
    levels, symbols = symbols_of(container, find_part(container.header))
    arrays = (
        levels.node_map,
        symbols.z,
        symbols.j,
        symbols.prior.mean,
        symbols.prior.log2_sigma,
    )
    return {
        "file": hashlib.sha256(data).hexdigest(),
        "size": [container.header.height_px, container.header.width_px],
    } | {name: _hash(array) for name, array in zip(SYMBOLS, arrays, strict=True)}


def write_set(
    folder: str | os.PathLike[str],
    codec: Any,
    cases: Sequence[Case],
    made_with: dict[str, Any],
    *,
    progress: Progress = no_progress,
) -> Manifest:
    """Encodes and decodes cases on this device and writes the set.

    Args:
      folder: made if it is missing.
      codec: a `Codec`.
      cases: what to encode.
      made_with: versions and device to record, plain data.
      progress: called before each case is encoded.
    """
    from rcodec_jax.data.pictures.writing import write_image

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part: IntegerPart = codec.bundle.integers
    entries: dict[str, dict[str, Any]] = {}
    for done, case in enumerate(cases):
        progress(done, len(cases), case.name)
        data = codec.encode(
            case.pixels,
            importance=case.importance,
            quality=case.quality,
            resampling=case.resampling,
            effort=1,
        )
        picture = folder / f"{case.name}.png"
        (folder / f"{case.name}.rdc").write_bytes(data)
        write_image(picture, codec.decode(data))
        digest = hashlib.sha256(picture.read_bytes()).hexdigest()
        entries[f"{case.name}.rdc"] = symbol_hashes(data, lambda _: part) | {
            "picture": {"name": picture.name, "file": digest}
        }
    record = {
        "integer_digest": part.digest.hex(),
        "float_digest": codec.bundle.float_digest.hex(),
        "made_with": made_with,
        "files": entries,
    }
    # Last, so that a folder with a manifest is a whole set.
    write_json(folder / MANIFEST, record)
    return read_manifest(folder)


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest of a set.

    Args:
      path: the manifest, or a folder with `verify.json` or else a single JSON file.

    Raises:
      UsageError: none there, or not one.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        path = path / MANIFEST if (path / MANIFEST).is_file() or len(found) != 1 else found[0]
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{path}: expected the manifest of a set, got: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected the manifest of a set, got no JSON") from error
    try:
        manifest = Manifest(
            path.parent,
            str(record["integer_digest"]),
            str(record["float_digest"]),
            dict(record.get("made_with", {})),
            {str(name): dict(entry) for name, entry in record["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: expected the manifest of a set, got other JSON") from error
    for name, entry in manifest.files.items():
        if any(not isinstance(entry.get(key), str) for key in ("file", *SYMBOLS)):
            raise UsageError(f"{path}: {name}: expected the hashes {', '.join(SYMBOLS)}")
        picture = entry.get("picture", {})
        if not isinstance(picture, dict):
            raise UsageError(f"{path}: {name}: expected a picture's name and hash")
        for file in (name, picture.get("name", name)):
            # A manifest comes from elsewhere: it names files beside itself and no others.
            if not _is_plain_name(file):
                raise UsageError(f"{path}: expected names of files without folders, got {file!r}")
    if not manifest.files:
        raise UsageError(f"{path}: expected at least one file in the set")
    return manifest


def check_symbols(
    manifest: Manifest, name: str, find_part: Callable[[Header], IntegerPart]
) -> Check:
    """Decodes a file's symbols here and compares them with what is recorded; needs no JAX.

    Args:
      manifest: of the set.
      name: of the file, a key of `manifest.files`.
      find_part: the integer part that a file needs.
    """
    try:
        data = (manifest.folder / name).read_bytes()
        found = symbol_hashes(data, find_part)
    except OSError as error:
        return Check(name, (f"cannot be read: {error.strerror or error}",))
    except RcodecError as error:
        return Check(name, (f"does not decode: {error}",))
    recorded = manifest.files[name]
    return Check(
        name,
        tuple(
            f"{key}: expected {_short(recorded[key])}, got {_short(value)}"
            for key, value in found.items()
            if key in recorded and recorded[key] != value
        ),
    )


def check_picture(manifest: Manifest, name: str, decode: Callable[[bytes], np.ndarray]) -> Check:
    """Decodes a file's picture here and compares it with the stored one, if there is one.

    Args:
      manifest: of the set.
      name: of the file, a key of `manifest.files`.
      decode: a file -> uint8 [H, W, 3].
    """
    from rcodec_jax.data.pictures.images import read_image

    recorded = manifest.files[name].get("picture", {})
    path = manifest.folder / recorded.get("name", f"{Path(name).stem}.png")
    if not recorded and not path.is_file():
        return Check(name, ())
    try:
        stored = path.read_bytes()
        expected = read_image(stored).pixels
        found = decode((manifest.folder / name).read_bytes())
    except OSError as error:
        return Check(name, (f"picture: cannot be read: {error.strerror or error}",))
    except RcodecError as error:
        return Check(name, (f"picture: {error}",))
    if recorded.get("file") not in (None, hashlib.sha256(stored).hexdigest()):
        return Check(name, (f"picture: {path.name} is not the file that was recorded",))
    if found.shape != expected.shape:
        return Check(name, (f"picture: expected {expected.shape}, got {found.shape}",))
    difference = compare_pictures(expected, found)
    if difference.within_tolerance:
        return Check(name, (), difference)
    problem = (
        f"picture: differs by up to {difference.largest} of 255 in "
        f"{100 * difference.share:.2f} % of its values, beyond the tolerance of "
        f"{MAX_DIFFERENCE} in {100 * MAX_SHARE:g} %"
    )
    return Check(name, (problem,), difference)


def compare_pictures(expected: np.ndarray, found: np.ndarray) -> Difference:
    """The difference of two pictures uint8 [H, W, 3] of one shape."""
    size = np.abs(expected.astype(np.int16) - found.astype(np.int16))
    return Difference(int(size.max()), float(size.mean()), float((size > 0).mean()), int(size.size))


def _is_plain_name(name: Any) -> bool:
    """Whether it names a file in the same folder, on any system."""
    if not isinstance(name, str) or name in ("", ".", ".."):
        return False
    return not set(name) & set("/\\:\0")


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, "<i4").tobytes()).hexdigest()


def _short(value: Any) -> str:
    return f"{value[:12]}.." if isinstance(value, str) else str(value)
