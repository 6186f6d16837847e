"""Made pictures: what collections of photographs are short of, drawn from a seed.

A model that has seen only photographs gives flat areas, saturated colours, text and dark skies more
noise or less contrast than they have. A share of these in the mixture is enough to mend that.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from rcodec_jax.data.sources.sources import PictureSource
from rcodec_jax.errors import UsageError

MADE = "made"
"""Name of the source, alone or as "made:COUNT"."""

COUNT = 240
SIDE_PX = 288
_VERSION = 1
"""Of what is drawn; part of the source's digest."""

_LETTERS = [*"abcdefghijklmnopqrstuvwxyz      ABCDEFGHIJKLMNOP0123456789.,:;-"]
_TEXT_PX = (11, 13, 16, 22, 34)


def made_pictures(count: int, size: int, seed: int) -> list[np.ndarray]:
    """Draws pictures of all `KINDS` in turn.

    Args:
      count: number of pictures.
      size: side in pixels, at least 8.
      seed: 0 or more; picture i is a function of seed, i and size alone.

    Returns:
      uint8 [size, size, 3] each, sRGB.
    """
    return [made_picture(index, size, seed) for index in range(count)]


def made_picture(index: int, size: int, seed: int) -> np.ndarray:
    """One of `made_pictures`: uint8 [size, size, 3]."""
    rng = np.random.default_rng([seed, index])
    draw = KINDS[KIND_NAMES[index % len(KIND_NAMES)]]
    pixels: np.ndarray = np.clip(np.rint(draw(rng, size)), 0, 255).astype(np.uint8)
    return pixels


class MadePictures(PictureSource):
    """Made pictures as a source of training data; all of them stay in memory once drawn.

    Args:
      count: pictures.
      size: side in pixels.
      seed: of what is drawn, independent of that of a run.

    Raises:
      UsageError: no picture, or smaller than 8 pixels.
    """

    def __init__(self, count: int = COUNT, *, size: int = SIDE_PX, seed: int = 0) -> None:
        if count < 1 or size < 8:
            raise UsageError(
                f"expected at least 1 made picture of at least 8 px, got {count} of {size} px"
            )
        self._size, self._seed = size, seed
        super().__init__(count, cache_bytes=3 * count * size**2)
        self.pixel_count = count * size**2

    @property
    def digest(self) -> str:
        text = f"made {_VERSION} {self.picture_count} {self._size} {self._seed}"
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, picture: int) -> np.ndarray:
        return made_picture(picture, self._size, self._seed)

    def __repr__(self) -> str:
        return f"MadePictures({self.picture_count} pictures of {self._size} px)"


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A grey in a third of the cases, a corner of the cube in a fifth, else any colour: [3]."""
    kind = rng.random()
    if kind < 0.35:
        return np.full(3, float(rng.integers(0, 256)))
    if kind < 0.55:
        return 255.0 * rng.integers(0, 2, 3)
    return rng.integers(0, 256, 3).astype(float)


def _ink(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    red, green, blue = (int(value) for value in _colour(rng))
    return red, green, blue


def _ramps(size: int) -> tuple[np.ndarray, np.ndarray]:
    """0..1 downwards [size, 1, 1] and to the right [1, size, 1]."""
    ramp = np.arange(size) / size
    return ramp[:, None, None], ramp[None, :, None]


def _flat(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.ones((size, size, 3)) * _colour(rng)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """A flat with the noise of a camera."""
    deviation = rng.uniform(0.3, 2.5)
    return _flat(rng, size) + rng.normal(0, deviation, (size, size, 1))


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """Between four corners, or from left to right."""
    down, right = _ramps(size)
    a, b, c, d = (_colour(rng) for _ in range(4))
    top = a * (1 - right) + b * right
    if rng.random() < 0.5:
        return top + np.zeros((size, 1, 1))
    return top * (1 - down) + (c * (1 - right) + d * right) * down


def _wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """A painted wall: slow waves of light and a little noise."""
    pixels = _flat(rng, size)
    y, x = np.mgrid[:size, :size]
    for _ in range(rng.integers(1, 4)):
        length, phase = rng.uniform(20, 90, 2), rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin(x / length[0] + phase[0]) * np.cos(y / length[1] + phase[1])
        tint = np.ones(3) if rng.random() < 0.7 else rng.uniform(0.5, 1.0, 3)
        pixels += (rng.uniform(2, 14) * wave)[..., None] * tint
    return pixels + rng.normal(0, rng.uniform(0, 2), (size, size, 1))


def _shapes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Ellipses, rectangles and lines on a flat, with smooth edges."""
    side = 2 * size
    image = Image.new("RGB", (side, side), _ink(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 9)):
        x0, y0, x1, y1 = (int(value) for value in rng.integers(0, side, 4))
        box = (min(x0, x1), min(y0, y1), max(x0, x1) + 2, max(y0, y1) + 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape(box, fill=_ink(rng), outline=_ink(rng), width=int(rng.integers(1, 6)))
        ends = [int(value) for value in rng.integers(0, side, 4)]
        draw.line(ends, fill=_ink(rng), width=int(rng.integers(1, 7)))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), float)


def _text(rng: np.random.Generator, size: int) -> np.ndarray:
    """Lines of letters of several sizes, always legible."""
    paper, ink = _ink(rng), _ink(rng)
    if abs(sum(paper) - sum(ink)) < 150:
        paper, ink = (255, 255, 255), (20, 20, 20)
    image = Image.new("RGB", (size, size), paper)
    draw, top = ImageDraw.Draw(image), 4
    while top < size:
        height = int(rng.choice(_TEXT_PX))
        line = "".join(rng.choice(_LETTERS, 48))
        draw.text((4, top), line, fill=ink, font=_font(height))
        top += int(height * 1.35)
    return np.asarray(image, float)


@functools.cache
def _font(height_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(height_px)


def _night(rng: np.random.Generator, size: int) -> np.ndarray:
    """A sky: a slope of one hue, clouds, and up to 30 small lights."""
    down, _ = _ramps(size)
    top = _colour(rng) * rng.uniform(0.05, 1)
    bottom = top * rng.uniform(0.6, 1.3)
    noise = np.clip(rng.normal(128, 40, (size, size)), 0, 255).astype(np.uint8)
    blur = ImageFilter.GaussianBlur(rng.uniform(4, 20))
    clouds = np.asarray(Image.fromarray(noise).filter(blur), float)
    clouds = (clouds - clouds.mean()) / (clouds.std() + 1e-6)
    pixels = top * (1 - down) + bottom * down + (rng.uniform(2, 18) * clouds)[..., None]
    for _ in range(rng.integers(0, 30)):
        row, column = rng.integers(0, size - 3, 2)
        pixels[row : row + 2, column : column + 2] = rng.uniform(180, 255)
    return pixels


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "flat": _flat,
    "grain": _grain,
    "gradient": _gradient,
    "wall": _wall,
    "shapes": _shapes,
    "text": _text,
    "night": _night,
}
"""What is drawn, by name: (rng, side in pixels) -> float [side, side, 3]."""

KIND_NAMES = ("flat", "grain", "gradient", "gradient", "wall", "shapes", "text", "night")
"""The kind of every picture in turn."""
