"""What the page computes: pure functions of files' bytes and arrays. Knows nothing of Gradio."""

from __future__ import annotations

import bisect
import dataclasses
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec.bitsmap import bits_of
from rcodec_jax.codec.codec import Codec
from rcodec_jax.data.pictures.images import read_image
from rcodec_jax.data.pictures.writing import write_image
from rcodec_jax.entropy import Limits
from rcodec_jax.errors import UsageError
from rcodec_jax.evaluate.coders import Setting
from rcodec_jax.evaluate.peers import make_peers
from rcodec_jax.metrics.decibels import psnr_db
from rcodec_jax.regions.sources import importance_by_name

EVERYWHERE, PAINTED, FACES, SALIENCY, CENTRE, GAZE = MATTERS = (
    "everything alike",
    "what I paint",
    "faces",
    "what stands out",
    "the middle",
    "where I look (one dab of the brush)",
)
"""What a user can say of what matters."""

KILOBYTES, BPP = UNITS = ("KB", "bits per pixel")
RIVALS = ("avif", "jpeg")
BRUSH_OPACITY = 0.55
"""Of the paint, so that the picture is seen through it."""

SHOWN_PX = 1600
"""Longest side of pictures on the page; files that are downloaded have all pixels."""

Draw = Callable[[np.ndarray, int, int], np.ndarray]
"""Bits of cells [h,w], height and width in pixels -> their heat map, uint8 [H,W,3]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rival:
    """The same picture in another format.

    Attributes:
      name: of the format.
      size_bytes: of its file.
      pixels: what it decodes to, uint8 [H,W,3].
      seconds: of the search for its quality.
      fits: whether it has no more bytes than were allowed; else it is its smallest file.
    """

    name: str
    size_bytes: int
    pixels: np.ndarray
    seconds: float
    fits: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """An encoded picture and its way back.

    Attributes:
      data: the file.
      original: uint8 [H,W,3].
      decoded: uint8 [H,W,3].
      importance: float32 [H,W] in 0..1, None where everything matters alike.
      cell_bits: float [h,w], bits of each cell.
      encode_s, decode_s: seconds.
      notes: what the user should know.
      name: of the photo or file that it was made of.
      rivals: the same picture in other formats, once they have been found.
    """

    data: bytes
    original: np.ndarray
    decoded: np.ndarray
    importance: np.ndarray | None
    cell_bits: np.ndarray
    encode_s: float
    decode_s: float
    notes: tuple[str, ...]
    name: str = "photo"
    rivals: tuple[Rival, ...] = ()


def importance_of(matters: str, pixels: np.ndarray, painted: np.ndarray | None) -> Any:
    """The importance map that a user asks for.

    Args:
      matters: one of MATTERS.
      pixels: uint8 [H,W,3].
      painted: where the brush was, floats [h,w] in 0..1 of the picture at any size; None: nowhere.

    Returns:
      float32 [H,W] in 0..1, or None where everything matters alike.

    Raises:
      UsageError: a brush is needed and nothing is painted, or there are no faces.
    """
    if matters == EVERYWHERE:
        return None
    if matters == FACES:
        found = importance_by_name(["faces"], pixels)
        if not found.any():
            raise UsageError("faces: expected some in the picture, found none: paint them")
        return found
    if matters == SALIENCY:
        return importance_by_name(["saliency"], pixels)
    if matters == CENTRE:
        return importance_by_name(["centre"], pixels)
    if matters not in MATTERS:
        raise UsageError(f"expected what matters out of {', '.join(MATTERS)}, got {matters!r}")
    if painted is None or not painted.any():
        raise UsageError(f"{matters}: expected paint on the picture, got none: use the brush")
    height, width = pixels.shape[:2]
    if matters == GAZE:
        rows, columns = np.nonzero(painted > painted.max() / 2)
        y = (rows.mean() + 0.5) * height / painted.shape[0] - 0.5
        x = (columns.mean() + 0.5) * width / painted.shape[1] - 0.5
        return importance_by_name([f"gaze:{max(x, 0)},{max(y, 0)}"], pixels)
    mask = Image.fromarray(np.asarray(painted, np.float32))
    resized = mask.resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, np.float32), 0, 1)


def paint_of(layers: Sequence[np.ndarray]) -> np.ndarray | None:
    """Where the brush was, floats [h,w] in 0..1, of the editor's layers uint8 [h,w,4]."""
    if not layers:
        return None
    opacity = np.maximum.reduce([layer[..., 3] for layer in layers]).astype(np.float32) / 255
    return np.minimum(opacity / BRUSH_OPACITY, 1)


def size_of(amount: float, unit: str, pixels: np.ndarray) -> int:
    """Bytes of a file that a user allows.

    Raises:
      UsageError: not a size above 0.
    """
    if unit not in UNITS:
        raise UsageError(f"expected a unit out of {', '.join(UNITS)}, got {unit!r}")
    if amount is None or not 0 < amount < 1e6:
        raise UsageError(f"expected a size above 0 in {unit}, got {amount}")
    height, width = pixels.shape[:2]
    bytes_ = amount * 1000 if unit == KILOBYTES else amount * height * width / 8
    return max(1, int(bytes_))


def encode(
    codec: Codec,
    pixels: np.ndarray,
    importance: np.ndarray | None,
    *,
    size_bytes: int,
    strength: float,
    effort: int,
    realism: float,
) -> Made:
    """Encodes a picture and decodes its file again.

    Args:
      pixels: uint8 [H,W,3].
      importance: of `importance_of`.
      size_bytes: never exceeded.
      strength, realism: 0..1; effort: 1..9; as for `Codec`.

    Raises:
      UsageError: a size out of reach, which is named, or an option that the model has not.
    """
    start = time.perf_counter()
    encoded = codec.encode_detailed(
        pixels,
        importance=importance,
        size_bytes=size_bytes,
        roi_strength=strength,
        effort=int(effort),
    )
    middle = time.perf_counter()
    decoded = codec.decode(encoded.data, realism=realism)
    end = time.perf_counter()
    return Made(
        encoded.data,
        pixels,
        decoded,
        importance,
        encoded.cell_bits,
        middle - start,
        end - middle,
        encoded.notes,
    )


def decode_again(codec: Codec, made: Made, realism: float) -> Made:
    """The same file decoded with another realism."""
    start = time.perf_counter()
    decoded = codec.decode(made.data, realism=realism)
    return dataclasses.replace(made, decoded=decoded, decode_s=time.perf_counter() - start)


def open_file(
    codec: Codec, data: bytes, *, realism: float, max_pixels: int, model: str | None = None
) -> Made:
    """Decodes an rcodec file; the original of the result is what was decoded.

    Args:
      max_pixels: larger pictures are refused before anything is allocated.
      model: folder of the codec's bundle, None for the one that ships.

    Raises:
      BitstreamError: damaged, too large, or of another model.
    """
    start = time.perf_counter()
    decoded = codec.decode(data, realism=realism, limits=Limits(max_pixels=max_pixels))
    seconds = time.perf_counter() - start
    bits = bits_of(read_container(data), model)
    return Made(data, decoded, decoded, None, bits.cells, 0.0, seconds, ())


def rival(name: str, pixels: np.ndarray, size_bytes: int) -> Rival | None:
    """The best file of another format that has no more bytes, found by its quality setting.

    Args:
      name: of a peer that has qualities 0..100.
      pixels: uint8 [H,W,3].
      size_bytes: it may have.

    Returns:
      None where that format is missing here.
    """
    made, _ = make_peers([name])
    if not made:
        return None
    (coder,) = made
    start = time.perf_counter()

    def of_quality(quality: int) -> bytes:
        return coder.encode(pixels, Setting("quality", float(quality)))

    above = bisect.bisect_right(range(101), size_bytes, key=lambda q: len(of_quality(q)))
    best = of_quality(max(above - 1, 0))
    seconds = time.perf_counter() - start
    return Rival(name.upper(), len(best), coder.decode(best), seconds, above > 0)


def table(made: Made) -> str:
    """Bytes, error and seconds of the file and its rivals, as Markdown."""
    matters = made.importance is not None
    head = ["", "bytes", "bits per pixel", "PSNR"]
    head += ["PSNR where it matters"] if matters else []
    lines = [[*head, "seconds"], ["---"] * (len(head) + 1)]
    count = made.original[..., 0].size
    rows = [("rcodec", len(made.data), made.decoded, f"{made.encode_s:.1f} + {made.decode_s:.1f}")]
    rows += [
        (r.name if r.fits else f"{r.name}, cannot be smaller", r.size_bytes, r.pixels,
         f"{r.seconds:.1f}")
        for r in made.rivals
    ]  # fmt: skip
    for name, size, pixels, seconds in rows:
        line = [name, f"{size:,}", f"{8 * size / count:.3f}"]
        line.append(f"{psnr_db(made.original, pixels):.1f} dB")
        if matters:
            line.append(f"{psnr_db(made.original, pixels, made.importance):.1f} dB")
        lines.append([*line, seconds])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([text, *made.notes])


def file_in_words(made: Made) -> str:
    """What was found in a file that was opened."""
    height, width = made.decoded.shape[:2]
    size = len(made.data)
    return (
        f"{width} x {height} pixels, {size:,} bytes, {8 * size / (width * height):.3f} bits per "
        f"pixel, decoded in {made.decode_s:.1f} s"
    )


def read_photo(path: str, max_pixels: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """A photo as uint8 [H,W,3], upright, and what was changed while reading.

    Raises:
      UsageError: no picture, or one of too many pixels.
    """
    with open(path, "rb") as file:
        picture = read_image(file.read(), max_pixels=max_pixels)
    return picture.pixels, picture.notes


def shown(pixels: np.ndarray) -> np.ndarray:
    """A picture as the page shows it, its longest side at most SHOWN_PX."""
    height, width = pixels.shape[:2]
    scale = SHOWN_PX / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def grey(importance: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """An importance map as a picture, uint8 [H,W,3]: bright matters."""
    values = np.ones(like.shape[:2], np.float32) if importance is None else importance
    return np.repeat(np.rint(values * 255).astype(np.uint8)[..., None], 3, axis=-1)


def png_of(pixels: np.ndarray) -> bytes:
    """A PNG whose metadata say that it is partly generated."""
    buffer = io.BytesIO()
    write_image(buffer, pixels, "PNG", marked=True)
    return buffer.getvalue()
