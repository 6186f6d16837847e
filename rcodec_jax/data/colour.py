"""What the samples of a decoded picture mean: any Pillow image to sRGB uint8."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from rcodec_jax.errors import UsageError

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    AssertionError,
    struct.error,
)
"""What Pillow's decoders raise on damaged files."""


def raw_mode(image: Image.Image) -> str:
    """Layout of the samples in the file, known before loading only.

    Pillow hands out 16-bit colour as 8 bits; here it can still be seen ("RGB;16B").
    """
    parts = [tile[3] for tile in getattr(image, "tile", ())]
    return " ".join(str(part[0] if isinstance(part, tuple) else part) for part in parts)


def to_srgb(image: Image.Image, layout: str, notes: list[str]) -> np.ndarray:
    """Upright sRGB pixels of a loaded image.

    Args:
      image: the image, loaded.
      layout: its `raw_mode` from before loading.
      notes: what was changed or lost is added here.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UsageError: samples that have no agreed range: floating point, or above 16 bits.
      Any of DECODER_ERRORS: damaged data.
    """
    _note_frames(image, notes)
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise UsageError("expected samples of 8 or 16 bits, got floating point")
    if ";16" in layout or image.mode.startswith("I"):
        notes.append("16 bits a channel were reduced to 8")
    if image.has_transparency_data:
        notes.append("the alpha channel was dropped")
    turned = upright(image)
    if turned.mode.startswith("I"):
        turned = Image.fromarray(reduce_16_bit(np.asarray(turned)))
    return np.array(_apply_profile(_without_alpha(turned), profile, notes), dtype=np.uint8)


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    # MPO is what phones write: one photo, then previews or depth, not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notes.append(f"only the first of {getattr(image, 'n_frames', 'several')} frames was read")


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    try:
        # Without a turn, `exif_transpose` would copy the picture.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except DECODER_ERRORS:  # unreadable EXIF: the picture itself is fine
        return image


def reduce_16_bit(values: np.ndarray) -> np.ndarray:
    """Integers 0..65535 to uint8, rounded to nearest."""
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise UsageError(f"expected samples in 0..65535, got {wide.min()}..{wide.max()}")
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def _without_alpha(image: Image.Image) -> Image.Image:
    """The image as L, RGB, CMYK or LAB: modes that a colour profile can apply to."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    if image.mode == "La":
        return image.convert("LA").convert("L")
    if image.mode in ("P", "PA", "RGBa"):
        # By way of RGBA: a palette may carry transparency, and RGBa is premultiplied.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Converts to sRGB by the embedded profile, or plainly where there is none."""
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _cms(image, ImageCms.ImageCmsProfile(lab)) or image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            description = ImageCms.getProfileDescription(source).strip()
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if image.mode == "RGB" and description.startswith("sRGB"):
                return image
            converted = _cms(image, source)
        except (ImageCms.PyCMSError, *DECODER_ERRORS):
            converted = None
        if converted is not None:
            notes.append(f"converted to sRGB from the profile {description or 'without a name'!r}")
            return converted
        notes.append("the embedded colour profile is unusable and was ignored")
    if image.mode == "CMYK":
        notes.append("CMYK was converted without a colour profile: colours are approximate")
    return image if image.mode == "RGB" else image.convert("RGB")


def _cms(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        return ImageCms.profileToProfile(
            image,
            source,
            target,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return None
