"""What a run leaves behind: CSV of every file, JSON of everything, plots."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcodec_jax import files
from rcodec_jax.evaluate.curves import CurvePoint

_TITLES = {
    "psnr_db": "PSNR (dB)",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (lower is better)",
    "dists": "DISTS (lower is better)",
    "ssimulacra2": "SSIMULACRA 2",
    "frechet": "Frechet distance (lower is better)",
    "fid256": "FID/256 (lower is better)",
}


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """One line per dataclass instance in `rows`, columns named by its fields; None is empty."""
    buffer = io.StringIO()
    names = [field.name for field in dataclasses.fields(rows[0])] if rows else []
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(getattr(row, name)) for name in names})
    files.atomic_write(path, buffer.getvalue().encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content` with dataclasses as objects; infinite and undefined numbers become null."""
    files.write_json(path, to_plain(content))


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plot_curves(
    path: Path, curves: Mapping[str, Sequence[CurvePoint]], *, lpips_net: str | None = None
) -> bool:
    """Rate-quality plots (a panel per figure) as PNG. False if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    metrics = [
        metric
        for metric in _TITLES
        if any(getattr(p, metric) is not None for points in curves.values() for p in points)
    ]
    figure = Figure(figsize=(5 * max(len(metrics), 1), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        for codec, points in curves.items():
            known = [p for p in points if getattr(p, metric) is not None]
            axes.plot(
                [p.bpp for p in known],
                [getattr(p, metric) for p in known],
                marker="o",
                markersize=3,
                label=points[0].label if points else codec,
            )
        title = _TITLES[metric]
        if metric == "lpips" and lpips_net:
            title = title.replace("LPIPS", f"LPIPS-{lpips_net.capitalize()}")
        if "lower is better" in title:
            axes.invert_yaxis()
        axes.set(xlabel="bits per pixel (whole file)", title=title)
        axes.grid(alpha=0.3)
        if i == 0:  # one for all, below: it would hide points
            lines = axes.get_legend_handles_labels()
            figure.legend(*lines, loc="outside lower center", ncols=len(metrics) + 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.atomic_write(path, buffer.getvalue())
    return True


def _plain(value: Any) -> Any:
    return "" if value is None else value
