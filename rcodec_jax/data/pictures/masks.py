"""Reading mask pictures as importance: grey values, binary masks, labels, and masks in alpha."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rcodec_jax.data.pictures.colour import upright
from rcodec_jax.data.pictures.images import ImageInput, load_image
from rcodec_jax.data.pictures.samples import DARK
from rcodec_jax.errors import UsageError

_DIM = 32
"""Grey values below it would make no region that can be seen: they are numbers of objects."""

_MOST_WIDE_LABELS = 64
"""More values than this in 16 bits are a slope, not objects."""


def read_mask(
    source: ImageInput,
    shape: tuple[int, int],
    roi_id: int | None = None,
    notes: list[str] | None = None,
    *,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Reads a mask picture as importance, upright as the photo it belongs to.

    Grey values count: a mask whose largest value is 1 is binary, others are divided by the full
    range (255, or 65535 at 16 bits). Transparent pixels do not matter; where the colour is the same
    all over, alpha is the mask. Values that look like numbers of objects (0 and one other, small
    ones alone, colours of a palette) are taken as labels, and all but 0 are 1. With `roi_id` the
    values are labels in any case (for a palette picture the indices), and the pixels of that label
    are 1.

    Args:
      source: path, encoded bytes, or an open binary file.
      shape: (height, width) of the picture it belongs to, upright.
      roi_id: label to pick, or None.
      notes: what was assumed about the mask is added here.
      allow_truncated: read what is there of a cut or damaged file, as `read_image` does.

    Returns:
      float32 [H, W] in 0..1.

    Raises:
      UsageError: not an image, damaged, another size, no pixel with that label, or none that
        matters.
    """
    notes = [] if notes is None else notes
    image, name, damage = load_image(source, allow_truncated=allow_truncated)
    notes += (f"mask: {note}" for note in damage)
    with image:
        try:
            turned = upright(image)
            if (turned.height, turned.width) != tuple(shape):
                raise UsageError(
                    f"expected a mask of {shape[1]}x{shape[0]} pixels like the image, "
                    f"got {turned.width}x{turned.height}"
                )
            if roi_id is not None:
                return _of_label(_labels(turned), roi_id)
            return _importance(turned, notes)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None


def _of_label(labels: np.ndarray, roi_id: int) -> np.ndarray:
    mask = labels == roi_id
    if not mask.any():
        raise UsageError(f"expected a label out of {_listed(labels)}, got {roi_id}")
    return mask.astype(np.float32)


def _labels(image: Image.Image) -> np.ndarray:
    """Integers [H, W] of a mask of labels."""
    if image.mode == "P":
        return np.asarray(image)
    values, alpha = _grey_and_alpha(image)
    return alpha if alpha is not None and _says_nothing(values) else values


def _importance(image: Image.Image, notes: list[str]) -> np.ndarray:
    """Float32 [H, W] of a mask without a chosen label."""
    values, alpha = _grey_and_alpha(image)
    if alpha is not None and _says_nothing(alpha):
        alpha = None
    if alpha is not None and _says_nothing(values):
        notes.append("mask: the colour is the same all over, so alpha is the mask")
        values, alpha = alpha, None
    labels = np.asarray(image) if image.mode == "P" and not _has_shades(image) else None
    values = values if labels is None else labels
    importance = _of_grey(values, notes) if labels is None else _any_label(labels, notes)
    if alpha is not None:
        notes.append("mask: transparent pixels do not matter")
        importance = importance * (alpha / np.float32(255))
    if not importance.any():
        raise UsageError(
            "expected a mask with important pixels (values above 0), got the values "
            f"{_listed(values)}" + (" and they are transparent" if alpha is not None else "")
        )
    if _says_nothing(importance):
        notes.append(f"mask: every pixel matters alike (values {_listed(values)})")
    return importance


def _of_grey(values: np.ndarray, notes: list[str]) -> np.ndarray:
    if values.max() <= 1:
        return np.clip(values, 0, 1).astype(np.float32)
    full = 255 if values.dtype == np.uint8 else 65535
    if _look_like_labels(values, full):
        return _any_label(values, notes)
    if values.max() > full:
        raise UsageError(f"expected a mask of 8 or 16 bits, got values up to {values.max()}")
    if values.max() <= full // DARK:
        notes.append(f"mask: its values {_listed(values)} are a small part of the range 0..{full}")
    return np.clip(values.astype(np.float32) / full, 0, 1)


def _any_label(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """1 wherever the label is not 0."""
    if not _says_nothing(values):
        notes.append(
            f"mask: the values {_listed(values)} were taken as labels, all but 0 are important "
            "(--roi-id K picks one)"
        )
    return (values != 0).astype(np.float32)


def _look_like_labels(values: np.ndarray, full: int) -> bool:
    found, counts = np.unique(values, return_counts=True)
    if found[-1] >= full:
        # Some data sets mark the borders of their objects with the largest value.
        objects = (found > 0) & (found < _DIM)
        others = (found >= _DIM) & (found < full)
        return not others.any() and counts[objects].sum() > counts[found >= full].sum()
    two = len(found) == 2 and found[0] == 0
    return bool(two or found[-1] < _DIM or (full > 255 and len(found) <= _MOST_WIDE_LABELS))


def _grey_and_alpha(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values, uint8 or a wider integer [H, W], and alpha in 0..255 where there is any."""
    if image.mode == "F":
        raise UsageError("expected a mask of 8 or 16 bits, got floating point")
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), None
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64), None
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        return np.asarray(coloured.convert("RGB").convert("L")), np.asarray(coloured)[..., 3]
    if image.mode == "L":
        return np.asarray(image), None
    return np.asarray(image.convert("RGB").convert("L")), None


def _has_shades(image: Image.Image) -> bool:
    """Whether a palette picture is one of two or more shades of grey: its colours are values."""
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all()) and not _says_nothing(colours)


def _says_nothing(values: np.ndarray) -> bool:
    return bool((values == values.flat[0]).all())


def _listed(values: np.ndarray) -> str:
    found = np.unique(values)
    return " ".join(str(value) for value in found[:16]) + " ..." * (len(found) > 16)
