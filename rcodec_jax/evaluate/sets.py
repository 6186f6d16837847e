"""Figures of whole sets of pictures, measured on the coded files that a run kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcodec_jax.data import read_image
from rcodec_jax.evaluate.coders import Coder
from rcodec_jax.evaluate.curves import CurvePoint
from rcodec_jax.evaluate.journal import Journal, digest
from rcodec_jax.evaluate.run import coded_path
from rcodec_jax.metrics.frechet import Moments, frechet_distance
from rcodec_jax.progress import Progress, no_progress


@dataclass(frozen=True)
class SetFigure:
    """Frechet distance of a codec's pictures at a setting; None with fewer than two patches."""

    frechet: float | None
    patches: int


def with_distance(
    metric: str,
    features: Callable[[np.ndarray], np.ndarray],
    curves: Mapping[str, Sequence[CurvePoint]],
    coders: Sequence[Coder],
    names: Sequence[str],
    *,
    root: Path,
    kept: Path,
    journal: Journal,
    progress: Progress = no_progress,
) -> dict[str, list[CurvePoint]]:
    """Mean curves with a Frechet distance of each setting over all pictures.

    A setting whose coded files were deleted gets none.

    Args:
      metric: "frechet" or "fid256", the figure of the points.
      features: makes those [n, C] of a picture, uint8 [H, W, 3].
      names: the pictures that every point of the curves is over.
      root, kept: folders of the pictures and of the coded files.
      journal: gets each figure as it comes; what it has already is not measured again.
    """
    by_name = {coder.name: coder for coder in coders}
    mark = digest(*(root / name for name in names))
    points = [point for line in curves.values() for point in line]
    originals: Moments | None = None
    found: dict[tuple[str, ...], float | None] = {}
    for i, point in enumerate(points):
        progress(i, len(points), f"{metric} of {point.codec} {point.setting}")
        key = (metric, mark, point.codec, point.setting)
        if key not in journal:
            if originals is None:
                originals = Moments()
                for name in names:
                    originals.add(features(read_image(root / name).pixels))
            decoded = Moments()
            try:
                for name in names:
                    pixels = _decoded(by_name[point.codec], point, name, kept)
                    decoded.add(features(pixels))
            except FileNotFoundError:
                continue
            enough = min(originals.count, decoded.count) >= 2
            distance = frechet_distance(originals, decoded) if enough else None
            journal.add(key, SetFigure(distance, decoded.count))
        found[key[2:]] = journal.find(key, SetFigure).frechet
    return {
        codec: [
            dataclasses.replace(p, figures={**p.figures, metric: found.get((p.codec, p.setting))})
            for p in line
        ]
        for codec, line in curves.items()
    }


def _decoded(coder: Coder, point: CurvePoint, name: str, kept: Path) -> np.ndarray:
    path = coded_path(kept, name, point.codec, point.setting, coder.suffix)
    return coder.decode(path.read_bytes())
