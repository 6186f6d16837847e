"""Rate-quality plots as plain numbers for a page: what its template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcodec_jax.evaluate.curves import CurvePoint, with_figure
from rcodec_jax.evaluate.metric import METRICS, Metric

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 44
"""Size and margins of a plot in its own units."""

_MAX_TICKS = 7
_PAST = 1.6
"""Peers are shown up to this multiple of the first codec's largest rate."""


@dataclass(frozen=True)
class Mark:
    """A point: its place in the plot, and what is said of it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """A codec's curve: `path` is SVG path data, `index` the codec's place in the legend."""

    index: int
    path: str
    marks: list[Mark]


@dataclass(frozen=True)
class Tick:
    """A line of the grid: its place along the axis and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A plot of one figure over rate; up is better."""

    title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]


def charts(curves: Mapping[str, Sequence[CurvePoint]], *, lpips_net: str | None) -> list[Chart]:
    """A plot for each figure that was measured; the first codec's rates set the range shown."""
    made = []
    for metric in METRICS.values():
        known = [with_figure(points, metric.name) for points in curves.values()]
        title = metric.page_title + metric.unit
        if metric.name == "lpips" and lpips_net:
            title = f"LPIPS ({lpips_net})"
        if not metric.higher_is_better:
            title += ", lower is better (up)"
        if any(known):
            made.append(_chart(title, metric, known))
    return made


def ticks(low: float, high: float, *, count: int = _MAX_TICKS) -> list[float]:
    """Round numbers within [low, high], at most one more than `count`."""
    step = 10.0 ** math.floor(math.log10((high - low) / count))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def rate_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high] for a logarithmic axis, as close as there is room."""
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        found = [m * 10.0**e for e in range(-6, 6) for m in steps]
        found = [rate for rate in found if low <= rate <= high]
        if len(found) <= _MAX_TICKS:
            break
    return found


def _chart(
    title: str, metric: Metric, curves: Sequence[Sequence[tuple[CurvePoint, float]]]
) -> Chart:
    own = next(points for points in curves if points)
    x_low = 0.85 * min(p.bpp for p, _ in own)
    x_high = _PAST * max(p.bpp for p, _ in own)
    shown = [value for points in curves for p, value in points if x_low <= p.bpp <= x_high]
    span = (max(shown) - min(shown)) or 1.0
    y_low, y_high = min(shown) - 0.04 * span, max(shown) + 0.04 * span

    def x_of(bpp: float) -> float:
        share = math.log(bpp / x_low) / math.log(x_high / x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y_of(value: float) -> float:
        share = (value - y_low) / (y_high - y_low)
        share = share if metric.higher_is_better else 1 - share
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for index, points in enumerate(curves):
        marks = [
            Mark(
                x_of(p.bpp),
                y_of(value),
                f"{p.codec} {p.setting}: {value:.{metric.digits}f} at {p.bpp:.4f} bpp",
            )
            for p, value in points
        ]
        path = "M" + "L".join(f"{mark.x},{mark.y}" for mark in marks) if marks else ""
        inside = [mark for mark in marks if LEFT <= mark.x <= WIDTH - RIGHT]
        inside = [mark for mark in inside if TOP <= mark.y <= HEIGHT - BOTTOM]
        lines.append(Line(index, path, inside))
    x_at = rate_ticks(x_low, x_high)
    y_at = ticks(y_low, y_high)
    digits = max(0, -math.floor(math.log10(y_at[1] - y_at[0]) + 1e-9)) if len(y_at) > 1 else 2
    return Chart(
        title,
        [Tick(x_of(rate), f"{rate:g}") for rate in x_at],
        [Tick(y_of(value), f"{value:.{digits}f}") for value in y_at],
        lines,
    )
