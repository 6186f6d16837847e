"""Reads a folder of any files as users would, and says what became of them.

    python tests/corpus/sweep.py FOLDER [--code-px 65536] [--model BUNDLE]

Every file is read as a picture and as a mask; what is refused for damage once more for what is
there of it. A picture that is read without a note is compared with other decoders, as far as they
are installed: Pillow alone, tifffile, OpenCV. Small ones are encoded and decoded, with the tiny
model of the tests unless another is named. Kinds of outcome:

    ok        read without a note (and coded), the same as others read it
    noted     read, and the user is told what was changed, or warned by Pillow
    differs   read without a note, but other decoders see something else
    refused   refused with a reason
    fault     another error than those that are meant for users, or a picture of another size

The exit code is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.pictures.masks import read_mask
from rcodec_jax.errors import RcodecError

KINDS = ("ok", "noted", "differs", "refused", "fault")
NANO = Path(__file__).parents[1] / "golden" / "nano"
SAME = 2.0
"""Decoders of lossy formats differ by less than this many levels in the mean."""

T = TypeVar("T")
Code = Callable[[np.ndarray], np.ndarray]


class Outcome(NamedTuple):
    """What became of a file: its kind, and why."""

    path: Path
    kind: str
    why: str = ""


def outcome(path: Path, code: Code | None = None, code_px: int = 0) -> Outcome:
    """Reads one file in all ways.

    Args:
      path: of the file.
      code: encodes and decodes pixels uint8 [H, W, 3]; None for neither.
      code_px: only pictures of at most so many pixels.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            picture = _refusal(lambda: read_image(path))
            if isinstance(picture, str):
                _refusal(lambda: read_image(path, allow_truncated=True))
                return Outcome(path, "refused", picture.removeprefix(f"{path}: "))
            pixels = picture.pixels
            _refusal(lambda: read_mask(path, pixels.shape[:2]))
            _refusal(lambda: read_mask(path, pixels.shape[:2], roi_id=1))
            if code is not None and pixels.shape[0] * pixels.shape[1] <= code_px:
                decoded = code(pixels)
                if (decoded.shape, decoded.dtype) != (pixels.shape, pixels.dtype):
                    return Outcome(path, "fault", f"coded {pixels.shape} as {decoded.shape}")
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(at.filename).name}:{at.lineno}"
            return Outcome(path, "fault", f"{type(error).__name__}: {error} ({where})")
    notes = [*picture.notes, *(str(warning.message) for warning in warned)]
    if notes:
        return Outcome(path, "noted", notes[0])
    for name, other in others(path):
        if other.shape != pixels.shape:
            return Outcome(path, "differs", f"{name} has {other.shape}, not {pixels.shape}")
        apart = float(np.abs(other.astype(int) - pixels).mean())
        if apart > SAME:
            return Outcome(path, "differs", f"{name} is {apart:.1f} levels apart")
    return Outcome(path, "ok")


def others(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """What other decoders make of a file: their names and uint8 [H, W, 3], where they can."""
    for name, read in (("Pillow", _pillow), ("tifffile", _tifffile), ("OpenCV", _opencv)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = read(path)
        except Exception:  # theirs to say why
            continue
        if pixels is not None and pixels.dtype == np.uint8 and pixels.ndim == 3:
            yield name, pixels


def _pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _tifffile(path: Path) -> np.ndarray | None:
    if importlib.util.find_spec("tifffile") is None:
        return None
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        pixels: np.ndarray = page.asarray()
        return pixels if page.photometric.name == "RGB" and pixels.shape[-1] == 3 else None


def _opencv(path: Path) -> np.ndarray | None:
    if importlib.util.find_spec("cv2") is None:
        return None
    import cv2

    with Image.open(path) as image:
        if image.mode == "LAB":  # OpenCV is 12 levels off there, Pillow 1
            return None
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if pixels is None else pixels[..., ::-1]


def _refusal(read: Callable[[], T]) -> T | str:
    """What `read` gives, or why it is refused."""
    try:
        return read()
    except RcodecError as error:
        return str(error)


def table(outcomes: list[Outcome]) -> str:
    """Kinds by frequency, and every reason with the first file that it was said of."""
    counts = collections.Counter(found.kind for found in outcomes)
    lines = [f"{kind:<8} {counts[kind]:>6}" for kind in KINDS]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for found in outcomes:
        if found.why:
            reason = re.sub(r"\d+(\.\d+)?", "N", found.why)
            groups.setdefault((found.kind, reason), []).append(found)
    order = sorted(groups.values(), key=lambda g: (-KINDS.index(g[0].kind), -len(g)))
    lines += [f"{g[0].kind:<8} {len(g):>6}  {g[0].why[:200]}  [{g[0].path}]" for g in order]
    return "\n".join(lines)


def nano_code(model: str | None) -> Code:
    """Encodes and decodes with a bundle, quickly."""
    import rcodec_jax

    codec = rcodec_jax.load(model or NANO)
    return lambda pixels: codec.decode(codec.encode(pixels, quality=50, effort=1))


def main(words: list[str] | None = None) -> int:
    """Sweeps a folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--code-px", type=int, default=256**2, help="0 codes nothing")
    parser.add_argument("--model", help="bundle to code with")
    args = parser.parse_args(words)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    code = nano_code(args.model) if args.code_px else None
    paths = sorted(path for path in args.folder.rglob("*") if path.is_file())
    outcomes = [outcome(path, code, args.code_px) for path in paths]
    print(table(outcomes))
    return int(any(found.kind == "fault" for found in outcomes))


if __name__ == "__main__":
    sys.exit(main())
