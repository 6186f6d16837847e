"""Around faces: "faces". Needs OpenCV 4, which brings its detectors along.

Boosted cascades of Haar-like features (Viola and Jones, CVPR 2001), one of them for faces from the
side. They are light and find upright faces that are not small. Each alone is often wrong, so that
two have to agree: on 269 photos (a part of what the shipped model was trained on, and Kodak) they
give 9 faces, an alpaca's among them, and 2 boxes without one.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.regions.importance import from_boxes
from rcodec_jax.regions.sources.arguments import no_argument

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last corner outside."""

SIDE_PX = 800
"""Longer side of the picture that is searched."""

_LEAST_PX, _LEAST_SHARE = 24, 0.06
"""Side of the smallest face: in pixels of that picture, and as a share of its shorter side."""

_FRONT, *_OTHERS = "frontalface_alt2", "frontalface_default", "profileface"
"""OpenCV's detectors: the one that has to see a face, and those of which one has to agree."""

_FRONT_HITS, _HITS = 5, 20
"""From how many overlapping hits on a face is believed: of the first, and of all together."""

_lock = threading.Lock()  # OpenCV's detectors are changed by what they look at

_MARGINS = (0.25, 0.45, 0.25, 0.3)
"""What is added left, above, right and below, in sides of a box that ends at brows and chin."""


class _Hit(NamedTuple):
    """A square that a detector has found, and how often."""

    x: int
    y: int
    side: int
    votes: int

    def is_on(self, other: _Hit) -> bool:
        """Whether both are about the same face: their middles lie close."""
        middles = ((hit.x + hit.side / 2, hit.y + hit.side / 2) for hit in (self, other))
        (ax, ay), (bx, by) = middles
        return max(abs(ax - bx), abs(ay - by)) < 0.35 * max(self.side, other.side)


def importance(pixels: np.ndarray, argument: str) -> np.ndarray:
    """1 in boxes around the faces that are found, 0 elsewhere; 0 all over where there is none.

    Raises:
      UsageError: as `find`.
    """
    no_argument("faces", argument)
    return around(find(pixels), *pixels.shape[:2])


def around(boxes: list[Box], height_px: int, width_px: int) -> np.ndarray:
    """`from_boxes` of as many faces as there are, float32 [H, W]; 0 all over of none."""
    if not boxes:
        return np.zeros((height_px, width_px), np.float32)
    return from_boxes(boxes, height_px, width_px)


def find(pixels: np.ndarray) -> list[Box]:
    """Boxes around faces with their hair, drawn generously, the surest first.

    Args:
      pixels: uint8 [H, W, 3].

    Raises:
      UsageError: OpenCV is not installed, or one without its detectors.
    """
    height, width = pixels.shape[:2]
    shrink = max(1.0, max(height, width) / SIDE_PX)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    cv2 = _opencv()
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    grey = cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    others = [_hits(name, grey) for name in _OTHERS]
    found = []
    for hit in _hits(_FRONT, grey):
        agreeing = [max([h.votes for h in hits if h.is_on(hit)], default=0) for hits in others]
        if hit.votes >= _FRONT_HITS and any(agreeing) and hit.votes + sum(agreeing) >= _HITS:
            found.append((hit.votes + sum(agreeing), _generous(hit, shrink, height, width)))
    return [box for _, box in sorted(found, reverse=True)]


def _generous(hit: _Hit, shrink: float, height: int, width: int) -> Box:
    x, y, side = (value * shrink for value in hit[:3])
    left, above, right, below = (share * side for share in _MARGINS)
    return (
        max(0, round(x - left)),
        max(0, round(y - above)),
        min(width, round(x + side + right)),
        min(height, round(y + side + below)),
    )


def _hits(name: str, grey: np.ndarray) -> list[_Hit]:
    """What a detector finds in a grey picture; that of profiles also in its mirror image."""
    least = max(_LEAST_PX, int(_LEAST_SHARE * min(grey.shape)))
    hits = []
    for mirrored in (False, True) if name == "profileface" else (False,):
        picture = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
        with _lock:
            boxes, counts = _detector(name).detectMultiScale2(
                picture, scaleFactor=1.15, minNeighbors=3, minSize=(least, least)
            )
        for (x, y, side, _), count in zip(boxes, np.ravel(counts), strict=True):
            x = grey.shape[1] - x - side if mirrored else x
            hits.append(_Hit(int(x), int(y), int(side), int(count)))
    return hits


@functools.cache
def _detector(name: str) -> Any:
    cv2 = _opencv()
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        found = f"none ({error})"
    else:
        if hasattr(cv2, "CascadeClassifier") and hasattr(cv2, "data"):
            return cv2
        found = f"{cv2.__version__}, which has no detectors of faces"
    raise UsageError(
        f"faces: expected OpenCV 4 (pip install 'rcodec-jax[faces]'), got {found}"
    ) from None
