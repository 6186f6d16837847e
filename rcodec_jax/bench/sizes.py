"""`rcodec bench sizes`: time and memory of whole commands, from small pictures to large ones.

Each peer runs in a process of its own as well, on all cores, with its defaults and its start-up in
the figures: Pillow's AVIF (libavif, speed 6, as avifenc) and JPEG XL by `pillow-jxl-plugin`
(libjxl, effort 7, as cjxl).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rcodec_jax.bench.codec import Command, run_command, run_measured
from rcodec_jax.errors import RcodecError
from rcodec_jax.progress import Progress, no_progress

PEERS = {"avif": ("AVIF", ()), "jxl": ("JPEG XL", ("pillow_jxl",))}
"""By the ending of their files: what they are called, and the modules that Pillow needs."""

LONG_S = 90.0
"""Commands that take longer are run once."""

_CONVERT = """
import sys
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
for module in sys.argv[3:]:
    __import__(module)
Image.open(sys.argv[1]).save(sys.argv[2])
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One codec on a picture of one size.

    Attributes:
      megapixels: of the picture.
      name: of the codec.
      bpp: bits per pixel of its file.
      encode, decode: the commands, with PNG read and written.
    """

    megapixels: float
    name: str
    bpp: float
    encode: Command
    decode: Command


def run(
    pixels: np.ndarray,
    megapixels: tuple[float, ...],
    *,
    bpp: float,
    peers: Sequence[str] = (),
    encoder_options: Sequence[str] = (),
    options: Sequence[str] = (),
    progress: Progress = no_progress,
) -> tuple[list[Row], list[str]]:
    """Measures commands on pictures of several sizes.

    Args:
      pixels: a picture, uint8 [H,W,3]; larger ones are made of it, mirrored side by side.
      megapixels: sizes, in millions of pixels; the pictures are 3:2.
      bpp: budget of our files, in bits per pixel.
      peers: names out of `PEERS`, of those that are installed.
      encoder_options: for `rcodec encode` (`--effort`).
      options: for both of our commands (`--model`, `--threads`).
      progress: called with (done, total, what comes next).

    Returns:
      Rows by size, ours first; of warm commands, but for those that take longer than `LONG_S`. And
      a line for each command that failed.
    """
    rows: list[Row] = []
    failed: list[str] = []
    total = len(megapixels) * (1 + len(peers))
    with tempfile.TemporaryDirectory(prefix="rcodec-bench-") as folder:
        picture, coded, back = (str(Path(folder) / name) for name in ("p.png", "p.rdc", "b.png"))
        for count in megapixels:
            made = mirrored(pixels, *sides(count))
            area = made.shape[0] * made.shape[1]
            Image.fromarray(made).save(picture, compress_level=1)
            del made
            progress(len(rows), total, f"rcodec, {count:g} megapixels")
            encode = ["encode", picture, coded, "--bpp", str(bpp), "--force"]
            encode += [*encoder_options, *options]
            decode = ["decode", coded, back, "--force", *options]
            with _telling(failed, count):
                first, second = (_warm(words, folder) for words in (encode, decode))
                rows.append(Row(area / 1e6, "rcodec", _bpp(coded, area), first, second))
            for suffix in peers:
                name, modules = PEERS[suffix]
                progress(len(rows), total, f"{name}, {count:g} megapixels")
                file = str(Path(folder) / f"p.{suffix}")
                with _telling(failed, count):
                    first, second = (
                        run_measured([sys.executable, "-c", _CONVERT, *pair, *modules], name)
                        for pair in ((picture, file), (file, back))
                    )
                    rows.append(Row(area / 1e6, name, _bpp(file, area), first, second))
    progress(total, total, "")
    return rows, failed


@contextlib.contextmanager
def _telling(failed: list[str], megapixels: float) -> Iterator[None]:
    """A command that fails costs its own row alone."""
    try:
        yield
    except RcodecError as error:
        failed.append(f"{megapixels:g} megapixels: {error}")


def sides(megapixels: float) -> tuple[int, int]:
    """Height and width in pixels of a picture of 3:2, both even."""
    height = max(2, 2 * round(math.sqrt(megapixels * 1e6 / 1.5) / 2))
    return height, 2 * round(height * 0.75)


def mirrored(pixels: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """[H,W,C] cut or repeated to a size, every other copy mirrored, so that no edges appear."""
    for axis, size in enumerate((height_px, width_px)):
        own = pixels.shape[axis]
        place = np.arange(size) % (2 * own)
        pixels = pixels.take(np.minimum(place, 2 * own - 1 - place), axis)
    return pixels


def _warm(words: list[str], cache: str) -> Command:
    """The second of two runs, as the first compiles what the cache lacks; of long ones the first,
    in which that is little."""
    first = run_command(words, cache=cache)
    return first if first.seconds > LONG_S else run_command(words, cache=cache)


def _bpp(path: str, area: int) -> float:
    return Path(path).stat().st_size * 8 / area
