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
from rcodec_jax.evaluate.curves import CurvePoint, with_figure
from rcodec_jax.evaluate.journal import flat
from rcodec_jax.evaluate.metric import measured


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """One line per dataclass instance in `rows`, columns as of `flat`; None is empty."""
    buffer = io.StringIO()
    lines = [flat(row) for row in rows]
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(buffer, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    files.atomic_write(path, buffer.getvalue().encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content` with dataclasses as objects; infinite and undefined numbers become null."""
    files.write_json(path, to_plain(content))


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(flat(value))
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
    metrics = measured(p.figures for points in curves.values() for p in points)
    figure = Figure(figsize=(5 * max(len(metrics), 1), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        for codec, points in curves.items():
            known = with_figure(points, metric.name)
            axes.plot(
                [p.bpp for p, _ in known],
                [value for _, value in known],
                marker="o",
                markersize=3,
                label=points[0].label if points else codec,
            )
        title = metric.title + metric.unit
        if metric.name == "lpips" and lpips_net:
            title += f"-{lpips_net.capitalize()}"
        if not metric.higher_is_better:
            title += " (lower is better)"
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
