"""Embedded colour profiles: to sRGB by what a profile does, whatever it is called."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from rcodec_jax.data.pictures.formats import DECODER_ERRORS

_AS_SRGB = 2
"""Levels of 255 that a profile may be off and still be sRGB: stored curves are rounded."""

_FAULTS = (ImageCms.PyCMSError, *DECODER_ERRORS)


def by_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Converts to sRGB by the embedded profile, or plainly where there is none.

    Args:
      image: of mode L, RGB, CMYK or LAB.
      profile: an ICC profile.
      notes: what was changed or assumed is added here.

    Returns:
      The image in mode RGB.
    """
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _converted(image, lab) or image.convert("RGB")
    if profile:
        try:
            source, description = _opened(profile)
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if image.mode in ("L", "RGB") and _is_srgb(profile, image.mode):
                return image if image.mode == "RGB" else image.convert("RGB")
            converted = _converted(image, source)
        except _FAULTS:
            converted = None
        if converted is not None:
            notes.append(f"converted to sRGB from the profile {description or 'without a name'!r}")
            return converted
        notes.append("the embedded colour profile is unusable and was ignored")
    if image.mode == "CMYK":
        notes.append("CMYK was converted without a colour profile: colours are approximate")
    return image if image.mode == "RGB" else image.convert("RGB")


def _opened(profile: bytes) -> tuple[ImageCms.ImageCmsProfile, str]:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return source, ImageCms.getProfileDescription(source).strip()


@functools.lru_cache(maxsize=32)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Whether a profile leaves every colour of a lattice, and every grey, nearly where it is."""
    if mode == "RGB":
        steps = np.linspace(0, 255, 16).round().astype(np.uint8)
        lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
        probe = np.concatenate([lattice, greys])[None]
    else:
        probe = np.arange(256, dtype=np.uint8)[None]
    converted = _converted(Image.fromarray(probe), _opened(profile)[0])
    if converted is None:
        raise ValueError("no profile of this kind of picture")
    expected = probe if mode == "RGB" else probe[..., None]
    return int(np.abs(np.asarray(converted).astype(int) - expected).max()) <= _AS_SRGB


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
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
    except _FAULTS:
        return None
