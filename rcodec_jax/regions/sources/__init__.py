"""Importance by name: of a source here is a file beside this one and a line in `SOURCES`.

Encoding (`rcodec encode --importance NAME`), evaluation and the maps of training
(`train.data.importance`) all look here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.regions.importance import combine
from rcodec_jax.regions.sources import box, centre, faces, gaze, salient

Source = Callable[[np.ndarray, str], np.ndarray]
"""(picture uint8 [H, W, 3], what the user wrote behind the name) -> float32 [H, W] in 0..1."""

SOURCES: dict[str, Source] = {
    "box": box.importance,
    "centre": centre.importance,
    "faces": faces.importance,
    "gaze": gaze.importance,
    "saliency": salient.importance,
}


def check_named(spec: str) -> tuple[str, str]:
    """Name and argument of NAME or NAME:ARGUMENT.

    Raises:
      UsageError: no source of that name.
    """
    name, _, argument = spec.partition(":")
    if name not in SOURCES:
        raise UsageError(f"expected a source out of {', '.join(SOURCES)}, got {name!r}")
    return name, argument


def importance_by_name(specs: Sequence[str], pixels: np.ndarray) -> np.ndarray:
    """The importance of a picture by named sources, joined by their maximum.

    Args:
      specs: each NAME or NAME:ARGUMENT, such as "saliency" or "gaze:120,80"; at least one.
      pixels: uint8 [H, W, 3].

    Returns:
      float32 [H, W] in 0..1.

    Raises:
      UsageError: no such source, an argument that it does not take, or a map that is none.
    """
    found = []
    for spec in specs:
        name, argument = check_named(spec)
        importance = np.asarray(SOURCES[name](pixels, argument), np.float32)
        fits = importance.shape == pixels.shape[:2]
        if not fits or not (importance.min() >= 0 and importance.max() <= 1):
            raise UsageError(
                f"source {name!r}: expected values in 0..1 of size {list(pixels.shape[:2])}, got "
                f"{importance.min():g}..{importance.max():g} of size {list(importance.shape)}"
            )
        found.append(importance)
    return combine(*found)
