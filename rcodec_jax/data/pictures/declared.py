"""What a file declares of its samples besides what Pillow hands out: depth and colour."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures import boxes, display
from rcodec_jax.data.pictures.png import Png


class Declared(NamedTuple):
    """What a file declares.

    Attributes:
      bits: that a channel has, or that have a meaning; None where it does not say.
      profile: its ICC profile, None where another declaration comes first.
      space: what samples mean where no profile says it, None for sRGB.
      notes: on what could not be understood.
      is_silent: whether EXIF has the word on colour where there is no profile.
    """

    bits: int | None = None
    profile: bytes | None = None
    space: display.Space | None = None
    notes: tuple[str, ...] = ()
    is_silent: bool = False


def declared(image: Image.Image, chunks: Png | None, read: Callable[[], bytes]) -> Declared:
    """Reads what a file declares.

    Args:
      image: as opened.
      chunks: of a PNG.
      read: gives the file's bytes.
    """
    profile = image.info.get("icc_profile")
    if chunks is not None:
        silent = not {b"cICP", b"sRGB", b"gAMA", b"cHRM"} & set(chunks.bodies)
        return _of_png(chunks, profile)._replace(is_silent=silent)
    if image.format in ("AVIF", "HEIF"):
        header = boxes.avif_header(read())
        profile = profile or header.profile
        if profile is None and header.code_points is not None:
            return _of_points(Declared(header.bits), *header.code_points[:2])
        return Declared(header.bits, profile)
    if image.format == "JPEG2000":
        header = boxes.jpeg2000_header(read())
        return Declared(header.bits, profile or header.profile)
    if image.format == "BMP" and profile is None:
        return _of_bmp(read())
    if image.format == "QOI" and read()[13:14] == b"\1":
        return Declared(
            notes=("the QOI header says linear light, as many do that are not: taken as sRGB",)
        )
    return Declared(profile=profile, is_silent=True)


def _of_png(chunks: Png, profile: bytes | None) -> Declared:
    """By the order of the third edition: cICP, iCCP, sRGB, gAMA and cHRM."""
    found = Declared(chunks.significant_bits)
    points = chunks.bodies.get(b"cICP")
    if points is not None:
        if len(points) == 4 and points[2] == 0 and points[3] in (0, 1):
            narrow = points[3] == 0
            coded = _of_points(found, points[0], points[1], narrow=narrow, peak=_peak(chunks))
            if not coded.notes:
                return coded
            found = coded
        else:
            found = found._replace(notes=("the cICP chunk is invalid and was ignored",))
    if profile is not None:
        return found._replace(profile=profile)
    if b"sRGB" in chunks.bodies:
        return found
    exponent, chromaticities = _gamma(chunks), _primaries(chunks)
    ignored = [
        f"the {kind.decode()} chunk is invalid and was ignored"
        for kind, value in ((b"gAMA", exponent), (b"cHRM", chromaticities))
        if value is None and kind in chunks.bodies
    ]
    found = found._replace(notes=(*found.notes, *ignored))
    if exponent is None and chromaticities is None:
        return found
    return found._replace(space=display.of_gamma(exponent, chromaticities))


def _of_bmp(data: bytes) -> Declared:
    """By the fourth and fifth version of a bitmap's header."""
    size, kind = int.from_bytes(data[14:18], "little"), data[70:74]
    if size >= 124 and kind == b"DEBM":  # embedded
        start, length = struct.unpack("<2I", data[126:134])
        profile = data[14 + start : 14 + start + length]
        return Declared(profile=profile if len(profile) == length > 0 else None)
    if size < 108 or kind != bytes(4) or len(data) < 122:
        return Declared()
    # XYZ of red, green and blue, and the power of each. Many writers leave them 0.
    xyz = np.array(struct.unpack("<9i", data[74:110])).reshape(3, 3) / 2**30
    powers = np.array(struct.unpack("<3I", data[110:122])) / 2**16
    exponent = float(powers[1]) if np.ptp(powers) < 0.01 and 0.1 <= powers[1] <= 10 else None
    corners = np.concatenate([xyz, xyz.sum(axis=0, keepdims=True)])
    sums = corners.sum(axis=1, keepdims=True)
    chromaticities = None
    if (sums > 0).all():
        x = [float(value) for value in (corners / sums)[:, :2].ravel()]
        found = (x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
        chromaticities = found if display.is_sensible(found) else None
    if exponent is None and chromaticities is None:
        return Declared()
    return Declared(space=display.of_gamma(exponent, chromaticities))


def _of_points(
    found: Declared,
    primaries: int,
    transfer: int,
    *,
    narrow: bool = False,
    peak: float | None = None,
) -> Declared:
    space = display.of_code_points(primaries, transfer, narrow=narrow, peak=peak)
    if isinstance(space, str):
        return found._replace(notes=(f"{space} are not known here and were ignored",))
    return found._replace(space=space)


def _peak(chunks: Png) -> float | None:
    """Cd/m2 of the brightest light: of the picture, else of the display it was made on."""
    light, mastering = chunks.bodies.get(b"cLLI", b""), chunks.bodies.get(b"mDCV", b"")
    if len(light) == 8 and (most := struct.unpack(">I", light[:4])[0]):
        return float(most) / 10000
    if len(mastering) == 24 and (most := struct.unpack(">I", mastering[16:20])[0]):
        return float(most) / 10000
    return None


def _gamma(chunks: Png) -> float | None:
    """The power that makes light of samples."""
    body = chunks.bodies.get(b"gAMA", b"")
    value = struct.unpack(">I", body)[0] if len(body) == 4 else 0
    return 100000 / value if 10000 <= value <= 1000000 else None


def _primaries(chunks: Png) -> display.Chromaticities | None:
    body = chunks.bodies.get(b"cHRM", b"")
    if len(body) != 32:
        return None
    white_x, white_y, *others = (value / 100000 for value in struct.unpack(">8I", body))
    red_x, red_y, green_x, green_y, blue_x, blue_y = others
    found = (red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y)
    return found if display.is_sensible(found) else None
