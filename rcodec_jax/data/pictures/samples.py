"""The samples of a decoded picture as integers of a known range, alpha apart from colour.

Pillow hands out colour of 16 bits as 8, cut and not rounded. Here such a file is decoded twice,
for the high bytes and for the low ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rcodec_jax.errors import UsageError

_DEEP = re.compile(r"(RGB|RGBA|RGBa|RGBX|CMYK|LA);16([LBN])")
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_BITS, _SAMPLE_FORMAT, _MAX_SAMPLE, _SIGNED_MAX, _PLANAR = 258, 339, 281, 341, 284
_PHOTOMETRIC = 262
_USUAL_BITS = (8, 10, 12, 14, 16)
DARK = 16
"""A picture whose largest sample is within this part of the range looks black."""


class Samples(NamedTuple):
    """Samples of a picture.

    Attributes:
      colour: integers in 0..top, [H, W] of mode L, [H, W, 3 or 4] of the others.
      mode: L, RGB, CMYK or LAB.
      alpha: uint8 [H, W], 0 where nothing is to be seen; None where all is opaque.
      top: what full intensity is; 255 where `colour` is uint8.
    """

    colour: np.ndarray
    mode: str
    alpha: np.ndarray | None
    top: int


def read_samples(
    image: Image.Image,
    again: Callable[[], Image.Image],
    notes: list[str],
    *,
    bits: int | None = None,
) -> Samples:
    """Decodes a picture.

    Args:
      image: as opened, not loaded.
      again: opens the same file once more.
      notes: what was assumed or lost is added here.
      bits: how many bits a channel the file declares to have a meaning, where Pillow does not know.

    Raises:
      UsageError: samples that have no agreed range.
      Any of `formats.DECODER_ERRORS`: damaged data.
    """
    mend_planes(image)
    layout, bits = raw_mode(image), _portable_bits(image) or bits
    deep = _DEEP.fullmatch(layout.split(" ")[0])
    planes = re.fullmatch(r"R;16([LB])( .*)?", layout)
    if image.mode == "F":
        raise UsageError("expected samples of 8 or 16 bits, got floating point")
    if deep or planes:
        kind = deep[1] if deep else image.mode
        values, top = _deep_values(image, again, kind), 65535
        samples = _split_deep(values, kind, image.info.get("transparency"))
    elif image.mode.startswith("I"):
        wide = image.mode == "I" and _tag(image, _BITS, (16,))[0] > 16
        image.load()
        values = np.asarray(image)
        if wide or values.dtype != np.uint16:
            values = values.astype(np.int64)
        if wide and _tag(image, _SAMPLE_FORMAT, (1,))[0] == 1:
            values &= 0xFFFFFFFF  # Pillow has signed ones alone
        top = _guessed_top(values) if wide else 65535
        key = image.info.get("transparency")
        alpha = None if key is None else np.where(values == key, 0, 255).astype(np.uint8)
        samples = Samples(values, "L", alpha, top)
    else:
        image.load()
        _mend_key(image, layout)
        if bits is not None and bits > 8:
            notes.append(f"{bits} bits a channel were reduced to 8")
        return _split(image)
    return _with_range(samples, image, bits, notes)


def raw_mode(image: Image.Image) -> str:
    """Layouts of the samples in the file, known before loading only, separated by spaces.

    Pillow hands out 16-bit colour as 8 bits; here it can still be seen ("RGB;16B").
    """
    parts = [_layout(tile[3]) for tile in getattr(image, "tile", ())]
    return " ".join(str(part) for part in parts)


def reduced(values: np.ndarray, top: int) -> np.ndarray:
    """Integers 0..top to uint8, rounded to nearest."""
    if top == 255:
        return values.astype(np.uint8)
    if top == 65535 and values.dtype == np.uint16:
        table = (np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535
        return table.astype(np.uint8)[values]
    return ((values.astype(np.int64) * 255 + top // 2) // top).astype(np.uint8)


def mend_planes(image: Image.Image) -> None:
    """Pillow reads raw planes of 16 bits as if they had 8."""
    bits = _tag(image, _BITS, (8,))
    tiles: list[Any] = getattr(image, "tile", [])
    if _tag(image, _PLANAR, (1,))[0] == 2 and bits[0] == 16 and len(_layout(tiles[0][3])) == 1:
        order = "B" if image.tag_v2.prefix == b"MM" else "L"  # type: ignore[attr-defined]
        image.tile = [  # type: ignore[attr-defined]
            tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:])) for tile in tiles
        ]


def _layout(args: Any) -> Any:
    return args[0] if isinstance(args, tuple) else args


def _deep_values(image: Image.Image, again: Callable[[], Image.Image], kind: str) -> np.ndarray:
    """Uint16 [H, W, C] of colour of 16 bits."""
    if kind == "LA":
        # Four bytes a pixel: two of grey, two of alpha.
        _replace_layouts(image, lambda layout: "RGBA")
        image.load()
        bytes_ = np.asarray(image)
        return np.ascontiguousarray(bytes_).view(">u2").astype(np.uint16)
    with again() as other:
        mend_planes(other)
        _replace_layouts(image, _straight)
        _replace_layouts(other, lambda layout: _swapped(_straight(layout)))
        image.load()
        other.load()
        high, low = np.asarray(image), np.asarray(other)
    return (high.astype(np.uint16) << 8) | low


def _replace_layouts(image: Any, change: Callable[[str], str]) -> None:
    image.tile = [
        tile._replace(
            args=(change(tile.args[0]), *tile.args[1:])
            if isinstance(tile.args, tuple)
            else change(tile.args)
        )
        for tile in image.tile
    ]


def _straight(layout: str) -> str:
    return layout.replace("RGBa", "RGBA")


def _swapped(layout: str) -> str:
    return layout[:-1] + _OTHER[layout[-1]]


def _split_deep(values: np.ndarray, kind: str, key: Any) -> Samples:
    if kind in ("CMYK", "RGBX", "RGB"):
        mode = "CMYK" if kind == "CMYK" else "RGB"
        colour = values if mode == "CMYK" else values[..., :3]
        alpha = None
        if isinstance(key, tuple):
            clear = (colour == np.array(key, np.uint16)).all(axis=-1)
            alpha = np.where(clear, 0, 255).astype(np.uint8)
        return Samples(colour, mode, alpha, 65535)
    colour, alpha = values[..., :-1], values[..., -1]
    if kind == "RGBa":  # premultiplied
        straight = colour.astype(np.uint64) * 65535 // np.maximum(alpha, 1)[..., None]
        colour = np.minimum(straight, 65535).astype(np.uint16)
    mode = "L" if kind == "LA" else "RGB"
    return Samples(colour[..., 0] if mode == "L" else colour, mode, reduced(alpha, 65535), 65535)


def _split(image: Image.Image) -> Samples:
    """Of a loaded picture of 8 bits."""
    alpha = None
    if image.has_transparency_data:
        # By way of RGBA: a palette may carry transparency, and RGBa is premultiplied.
        both = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(both.getchannel("A"))
        image = both.convert("L" if both.mode == "LA" else "RGB")
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return Samples(np.asarray(image), image.mode, alpha, 255)


def _with_range(
    samples: Samples, image: Image.Image, bits: int | None, notes: list[str]
) -> Samples:
    """The samples with the range that the file declares, said in a note."""
    values = samples.colour
    least, largest = int(values.min()), int(values.max())
    declared = _declared_top(image, values, largest, bits)
    top = samples.top if declared is None else declared
    if least < 0 or largest > top:
        raise UsageError(
            f"expected samples in 0..{top}, got {least}..{largest} (TIFF's MaxSampleValue may "
            "declare another range, such as 16777215)"
        )
    stored = int(_tag(image, _BITS, (16,))[0])
    if stored > 16 and declared is None:
        notes.append(
            f"{stored} bits a channel were reduced to 8; no range is declared, it was taken as "
            f"0..{top} (the largest sample is {largest})"
        )
    elif declared is not None or largest > 65535 // DARK or not largest:
        shown = bits if image.format in ("PPM", "JPEG2000") else top.bit_length()
        notes.append(f"{shown or 16} bits a channel were reduced to 8")
    else:
        notes.append(
            "16 bits a channel were reduced to 8; the range was taken as 0..65535, as no other is "
            f"declared, and the largest sample is {largest}: the picture is dark"
        )
    if image.mode.startswith("I") and _tag(image, _PHOTOMETRIC, (1,))[0] == 0:
        values = top - values  # 0 is white: Pillow turns round 8 bits and fewer alone
    return samples._replace(colour=values, top=top)


def _declared_top(
    image: Image.Image, values: np.ndarray, largest: int, bits: int | None
) -> int | None:
    """The largest sample that a file declares to be possible, None where it does not."""
    if image.format == "PPM":
        return 65535
    if image.format == "JPEG2000" and bits is not None and 8 < bits <= 16:
        return (2**bits - 1) << (16 - bits)  # the codec shifts them up
    if image.format == "PNG" and bits is not None and bits < 16:
        # By the book samples fill 16 bits whatever they had before; some writers leave them small.
        top = 2**bits - 1
        return top if largest <= top and (values % 2 ** (16 - bits)).any() else None
    if image.format != "TIFF":
        return None
    stored = int(_tag(image, _BITS, (16,))[0])
    for tag in (_MAX_SAMPLE, _SIGNED_MAX):
        value = _tag(image, tag, (0,))[0]
        # Other values are a statistic of this picture, not a range.
        if isinstance(value, int) and value > 255 and (value + 1) & value == 0:
            return value
    if stored < 16:
        return 2**stored - 1
    return 32767 if stored == 16 and _tag(image, _SAMPLE_FORMAT, (1,))[0] == 2 else None


def _guessed_top(values: np.ndarray) -> int:
    """The least usual depth that holds the samples of a file that declares none."""
    largest = int(values.max())
    return next((2**bits - 1 for bits in _USUAL_BITS if largest < 2**bits), 65535)


def _mend_key(image: Image.Image, layout: str) -> None:
    """A transparent grey of 2 or 4 bits is compared with samples that were stretched to 8."""
    key, stretch = image.info.get("transparency"), {"L;2": 85, "L;4": 17}.get(layout)
    if image.mode == "L" and isinstance(key, int) and stretch:
        image.info["transparency"] = key * stretch


def _portable_bits(image: Image.Image) -> int | None:
    """Bits of a PPM's or PGM's largest value, to which Pillow scales by itself; not loaded yet."""
    if image.format != "PPM":
        return None
    args = image.tile[0].args  # type: ignore[attr-defined]
    known = isinstance(args, tuple) and len(args) == 2
    return int(args[1]).bit_length() if known else 16 if image.mode == "I" else 8


def _tag(image: Image.Image, tag: int, default: tuple[int, ...]) -> tuple[Any, ...]:
    """A TIFF tag as a tuple; the default where it is missing or this is no TIFF."""
    tags = getattr(image, "tag_v2", None)
    value = default if tags is None else tags.get(tag, default)
    return value if isinstance(value, tuple) and value else (value,)
