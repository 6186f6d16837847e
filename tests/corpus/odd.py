"""Odd pictures, made: what public test sets have of every kind, in a few lines each.

python tests/corpus/odd.py FOLDER
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What has to be done to an upright picture so that the tag of that number makes it upright."""


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    """Something smooth with all its corners different: uint8 [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    return np.stack([255 * rows, 255 * columns, 90 + 120 * rows * columns], -1).astype(np.uint8)


def odd_files() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all of them; what comes first in a name is the outcome.

    `ok` is read, `refused` is refused with a reason.
    """
    image = Image.fromarray(photo())
    grey = np.asarray(image.convert("L"))
    yield "ok_plain.png", saved(image, "PNG")
    for number, turn in _TURNED.items():
        exif = Image.Exif()
        exif[ORIENTATION] = number
        yield f"ok_turned_{number}.png", saved(image.transpose(turn), "PNG", exif=exif.tobytes())
    exif[ORIENTATION] = 99
    yield "ok_turned_99.jpg", saved(image, "JPEG", exif=exif.tobytes())
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        yield (
            f"ok_{mode.replace(';', '')}.png",
            saved(deep if mode == "I;16" else image.convert(mode), "PNG"),
        )
    for mode in ("CMYK", "LAB", "YCbCr", "RGBX", "I;16B"):
        turned = Image.fromarray(grey.astype(">u2") * 257) if mode == "I;16B" else image
        picture = turned if mode == "I;16B" else turned.convert(mode)
        yield f"ok_{mode.replace(';', '')}.tif", saved(picture, "TIFF")
    yield "refused_float.tif", saved(Image.fromarray(grey.astype(np.float32)), "TIFF")
    yield "ok_cmyk.jpg", saved(image.convert("CMYK"), "JPEG")
    yield "ok_key.png", saved(image.convert("P"), "PNG", transparency=0)
    yield "ok_key_rgb.png", saved(image, "PNG", transparency=(0, 0, 90))
    for height, width in ((1, 1), (1, 5000), (5000, 1), (7, 9)):
        small = Image.fromarray(photo(height, width))
        yield f"ok_{height}x{width}.png", saved(small, "PNG")
    frames = [Image.fromarray(np.roll(photo(), 9 * i, 1)) for i in range(3)]
    for name, kind in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG"), ("tif", "TIFF")):
        more = {"save_all": True, "append_images": frames[1:]}
        yield f"ok_animated.{name}", saved(frames[0], kind, **more)
    for name, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")):
        data = saved(image, kind)
        for share in (0.02, 0.5, 0.95):
            yield f"refused_cut_{int(100 * share)}.{name}", data[: int(share * len(data))]
    yield "ok_pgm_12_bits.pgm", b"P5 56 40 4095\n" + (grey.astype(">u2") * 16).tobytes()
    yield "ok_plain_text.ppm", b"P3\n# a comment\n2 1\n255\n255 0 0  0 0 255\n"
    for name, kind in (("jp2", "JPEG2000"), ("avif", "AVIF"), ("bmp", "BMP")):
        yield f"ok_plain.{name}", saved(image, kind)
    yield "ok_named_png.png", saved(image, "JPEG")
    yield "ok_no_ending", saved(image, "PNG")
    yield "refused_empty.png", b""
    yield "refused_text.jpg", b"this is not a picture\n"
    yield "refused_drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "refused_page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    huge = bytearray(saved(image, "PNG"))
    huge[16:24] = b"\x00\x0f\xff\xff" * 2
    yield "refused_declares_a_terapixel.png", bytes(huge)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file of Pillow's kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(folder: Path) -> int:
    """Writes all of them and returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(odd_files())
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return len(made)


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} files in {sys.argv[1]}")
