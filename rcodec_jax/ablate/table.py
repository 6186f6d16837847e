"""Variants against the base: rate at equal quality, with intervals, and what that says."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcodec_jax import files
from rcodec_jax.ablate.measure import REGION, UNIFORM, Found
from rcodec_jax.ablate.variants import BASE
from rcodec_jax.config.ablation import Ablation
from rcodec_jax.metrics.bdrate import bd_rate
from rcodec_jax.metrics.intervals import Interval, bootstrap_interval

LOW = 3
"""Settings with a region, the coarsest ones, that are its low rates."""

COLUMNS = {"uniform": UNIFORM, "region": REGION, "low": f"{REGION}, low rates"}


class Figure(NamedTuple):
    """Rate of a variant against the base at equal quality in percent; above 0 it needs more.

    Attributes:
      percent: of the curves of means over pictures and seeds; None if it is undefined.
      interval: 95 %, over bootstrap samples of the pictures.
      of_seeds: the same for each seed alone.
    """

    percent: float | None
    interval: Interval | None
    of_seeds: tuple[float | None, ...]


class Line(NamedTuple):
    """A variant in the table: figures by the keys of `COLUMNS`, and what they say."""

    name: str
    claim: str
    figures: dict[str, Figure]
    verdict: str


def compare(
    found: Mapping[tuple[str, int], Found], ablations: Mapping[str, Ablation]
) -> list[Line]:
    """Lines of all variants of which a seed is measured, as is the base's.

    The last line is the base's second seed against its first: what chance does.

    Args:
      found: by variant and seed.
    """
    lines, chance = [], {}
    if (BASE, 1) in found:
        pair = [(found[BASE, 0], found[BASE, 1])]
        chance = {column: _figure(pair, column) for column in COLUMNS}
    for name, ablation in ablations.items():
        pairs = [
            (found[BASE, seed], found[name, seed])
            for seed in range(ablation.seeds)
            if (name, seed) in found and (BASE, seed) in found
        ]
        if pairs:
            figures = {column: _figure(pairs, column) for column in COLUMNS}
            where = ablation.where
            verdict = _verdict(figures[where], chance.get(where)) if ablation.claim else ""
            lines.append(Line(name, ablation.claim, figures, verdict))
    if chance:
        lines.append(Line(f"{BASE}, another seed", "", chance, ""))
    return lines


def _figure(pairs: Sequence[tuple[Found, Found]], column: str) -> Figure:
    tables = [tuple(_table(one, column) for one in pair) for pair in pairs]
    both = np.mean(tables, axis=0)  # [2, settings, 2, pictures]
    count = both.shape[-1]

    def figure(draw: np.ndarray, table: np.ndarray = both) -> float:
        (rate, quality), (other_rate, other_quality) = (
            one.T for one in table[..., draw].mean(axis=-1)
        )
        if not np.isfinite(table[..., draw]).all():  # a model that diverged
            return float("nan")
        return bd_rate(rate, quality, other_rate, other_quality)

    every = np.arange(count)
    of_seeds = tuple(_known(figure(every, np.array(pair))) for pair in tables)
    return Figure(_known(figure(every)), bootstrap_interval(figure, count), of_seeds)


def _table(found: Found, column: str) -> np.ndarray:
    """Rate and quality [settings, 2, pictures] of a column."""
    kind = UNIFORM if column == "uniform" else REGION
    at = [n for n, setting in enumerate(found.settings) if setting.split()[0] == kind]
    at = at[-LOW:] if column == "low" else at
    return np.array([[found.bpp[n], found.quality_db[n]] for n in at])


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _verdict(figure: Figure, chance: Figure | None) -> str:
    """Shown only where the interval, every seed and what chance does agree."""
    unclear = "does not show at this scale"
    if figure.percent is None or figure.interval is None:
        return unclear
    low, high = figure.interval
    noise = abs(chance.percent) if chance is not None and chance.percent is not None else 0.0
    sign = np.sign(figure.percent)
    agree = all(seed is not None and np.sign(seed) == sign for seed in figure.of_seeds)
    if low <= 0 <= high or not agree or abs(figure.percent) <= noise:
        return unclear
    return "shows" if sign > 0 else "the opposite shows"


def cells(line: Line) -> list[str]:
    """A line of the table in words."""
    shown = [line.name, line.claim]
    for column in COLUMNS:
        percent, interval, of_seeds = line.figures[column]
        text = "-" if percent is None else f"{percent:+.1f} %"
        if interval is not None:
            text += f" ({interval[0]:+.1f} to {interval[1]:+.1f})"
        if len(of_seeds) > 1:
            seeds = ("-" if seed is None else f"{seed:+.1f}" for seed in of_seeds)
            text += f" [{', '.join(seeds)}]"
        shown.append(text)
    return [*shown, line.verdict]


def header() -> list[str]:
    """Of the table."""
    return ["variant", "the paper expects", *COLUMNS.values(), "at this scale"]


def markdown(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    rows = [header(), ["---"] * len(header()), *map(cells, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def draw(path: Path, lines: Sequence[Line]) -> bool:
    """Figures with their intervals as a PNG. False if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return False
    canvas = Canvas(figsize=(12, 1.5 + 0.35 * len(lines)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, len(COLUMNS), sharey=True)
    for axes, (column, title) in zip(panels, COLUMNS.items(), strict=True):
        for at, line in enumerate(lines):
            percent, interval, _ = line.figures[column]
            if percent is not None:
                axes.plot(percent, -at, "o", color="C0")
            if interval is not None:
                axes.plot(interval, (-at, -at), color="C0")
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set(title=title, xlabel="rate at equal quality, % of base")
        axes.set_yticks([-at for at in range(len(lines))], [line.name for line in lines])
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=120)
    files.atomic_write(path, buffer.getvalue())
    return True
