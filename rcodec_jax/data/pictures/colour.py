"""What the samples of a decoded picture mean: any Pillow image to sRGB uint8."""

from __future__ import annotations

import operator

import numpy as np
from PIL import ExifTags, Image, ImageColor

from rcodec_jax.data.pictures.declared import Declared
from rcodec_jax.data.pictures.display import ADOBE_RGB, to_srgb8
from rcodec_jax.data.pictures.formats import DECODER_ERRORS
from rcodec_jax.data.pictures.icc import by_profile
from rcodec_jax.data.pictures.samples import Samples, reduced
from rcodec_jax.errors import UsageError

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)

_DCF_OPTION = "R03"
"""EXIF's interoperability of pictures in Adobe RGB (DCF 2.0)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for."""


def to_srgb(
    image: Image.Image,
    samples: Samples,
    facts: Declared,
    notes: list[str],
    background: Colour = WHITE,
) -> np.ndarray:
    """Upright sRGB pixels of a decoded image.

    Args:
      image: the image the samples are of: its orientation and frames count.
      samples: see `samples.read_samples`.
      facts: what its file declares of colour.
      notes: what was changed or lost is added here.
      background: sRGB colour that shows where the picture is transparent.

    Returns:
      uint8 [H, W, 3].
    """
    _note_frames(image, notes)
    space = facts.space
    # Cameras set to Adobe RGB say so in EXIF and may write no profile.
    if facts.profile is None and facts.is_silent and _is_adobe_rgb(image):
        notes.append("no profile is embedded, but EXIF says Adobe RGB")
        space = ADOBE_RGB
    if space is not None and not space.is_srgb and samples.mode in ("L", "RGB"):
        notes.append(space.note)
        pixels = to_srgb8(samples.colour, samples.top, space)
    else:
        colour = reduced(samples.colour, samples.top)
        pixels = _apply_profile(colour, samples.mode, facts.profile, notes)
    if samples.alpha is not None and (samples.alpha < 255).any():
        pixels = _over(pixels, samples.alpha, background)
        name = "white" if background == WHITE else "#" + bytes(background).hex()
        notes.append(f"transparent pixels were laid on {name} (--background names another colour)")
    method = _TURNS.get(_orientation(image))
    if method is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(method))
    return np.require(pixels, np.uint8, ["C", "W", "O"])


def colour_of(text: str) -> Colour:
    """The sRGB colour of a name or of #rrggbb.

    Raises:
      UsageError: another text.
    """
    try:
        found: tuple[int, ...] = ImageColor.getrgb(text)
    except ValueError:
        found = ()
    if len(found) != 3:  # four with alpha
        raise UsageError(f"expected a colour such as white or #ffffff, got {text!r}")
    return found[0], found[1], found[2]


def checked_colour(colour: Colour) -> Colour:
    """Red, green and blue as integers.

    Raises:
      UsageError: not three integers in 0..255.
    """
    try:
        red, green, blue = (operator.index(value) for value in colour)
        bytes((red, green, blue))
    except (TypeError, ValueError):
        raise UsageError(f"expected a colour as three integers in 0..255, got {colour!r}") from None
    return red, green, blue


def upright(image: Image.Image) -> Image.Image:
    """A loaded image turned as its EXIF orientation says."""
    method = _TURNS.get(_orientation(image))
    return image if method is None else image.transpose(method)


def essential_exif(image: Image.Image) -> Image.Exif:
    """What counts here of a picture's EXIF alone: the rest may be damaged or of another file."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _orientation(image)
    if _is_adobe_rgb(image):
        interoperability = {ExifTags.Interop.InteropIndex: _DCF_OPTION}
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = interoperability
    return exif


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODER_ERRORS:  # unreadable EXIF: the picture itself is fine
        return 1


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        interoperability = image.getexif().get_ifd(ExifTags.IFD.Interop)
    except DECODER_ERRORS:
        return False
    value = interoperability.get(ExifTags.Interop.InteropIndex)
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.rstrip("\0") == _DCF_OPTION


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    # MPO is what phones write: one photo, then previews or depth, not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notes.append(f"only the first of {getattr(image, 'n_frames', 'several')} frames was read")


def _over(pixels: np.ndarray, alpha: np.ndarray, background: Colour) -> np.ndarray:
    """Pixels [H, W, 3] over a background, rounded to nearest; alpha uint8 [H, W]."""
    weight = alpha.astype(np.uint16)[..., None]
    below = np.array(background, np.uint16)
    # At most 255 * 255 + 127, which 16 bits hold.
    return ((pixels * weight + below * (255 - weight) + 127) // 255).astype(np.uint8)


def _apply_profile(
    colour: np.ndarray, mode: str, profile: bytes | None, notes: list[str]
) -> np.ndarray:
    """Samples of 8 bits to sRGB [H, W, 3], by the embedded profile where there is one."""
    if mode == "RGB" and not profile:
        return colour
    size = colour.shape[1], colour.shape[0]
    image = Image.frombytes(mode, size, np.ascontiguousarray(colour).tobytes())
    return np.asarray(by_profile(image, profile, notes))
