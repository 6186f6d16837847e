"""Mean curves of a run and BD-rates between its codecs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rcodec_jax.evaluate.metric import METRICS, measured
from rcodec_jax.evaluate.run import Row
from rcodec_jax.metrics.bdrate import bd_rate, common_range
from rcodec_jax.metrics.intervals import Interval, bootstrap_interval, bootstrap_mean


@dataclass(frozen=True)
class CurvePoint:
    """Arithmetic means over all pictures at one setting of one codec."""

    codec: str
    setting: str
    pictures: int
    bpp: float
    figures: Mapping[str, float | None]
    """By name (see `evaluate.metric`); those of sets are of all pictures."""
    encode_seconds: float
    """Median, as the first picture of a size may compile."""
    decode_seconds: float
    model: str = ""

    @property
    def label(self) -> str:
        """The codec and, of one that has models, which it was."""
        return f"{self.codec} ({self.model})" if self.model else self.codec


Point = TypeVar("Point", bound=Row | CurvePoint)


@dataclass(frozen=True)
class BdRate:
    """Rate of `test` against `anchor` at equal `metric`, in percent; None if it is undefined."""

    test: str
    anchor: str
    metric: str
    of_means_percent: float | None
    """BD-rate between the two curves of dataset means."""
    mean_of_pictures_percent: float | None
    """Mean of each picture's own BD-rate, over the pictures where it is defined."""
    pictures: int
    quality_range: Interval | None
    """Range of quality the figure of the mean curves is averaged over."""
    of_means_interval: Interval | None = None
    """95 % of the figure over bootstrap samples of the pictures, as is the next one."""
    mean_of_pictures_interval: Interval | None = None


def codecs_of(rows: Iterable[Row]) -> list[str]:
    """Names of the codecs, in order of appearance."""
    return list(dict.fromkeys(row.codec for row in rows))


def mean_curves(rows: Sequence[Row]) -> dict[str, list[CurvePoint]]:
    """Curve of every codec, by rising rate.

    A setting that is missing for some picture is left out: its mean would be over other pictures.
    """
    picture_count = len({row.picture for row in rows})
    curves: dict[str, list[CurvePoint]] = {}
    for codec in codecs_of(rows):
        by_setting: dict[str, list[Row]] = {}
        for row in rows:
            if row.codec == codec:
                by_setting.setdefault(row.setting, []).append(row)
        points = [_mean(group) for group in by_setting.values() if len(group) == picture_count]
        curves[codec] = sorted(points, key=lambda point: point.bpp)
    return curves


def bd_rates(
    rows: Sequence[Row], test: str, curves: Mapping[str, Sequence[CurvePoint]] | None = None
) -> list[BdRate]:
    """BD-rates of the codec `test` against each of the others.

    Args:
      curves: mean curves with figures of sets; those have neither intervals nor means of pictures.
    """
    of_sets = [] if curves is None else _of_sets(curves, test)
    curves = mean_curves(rows) if curves is None else curves
    found = [
        _bd_rate(rows, curves, test, anchor, metric.name)
        for anchor in codecs_of(rows)
        if anchor != test
        for metric in measured(row.figures for row in rows)
    ]
    return found + of_sets


def _of_sets(curves: Mapping[str, Sequence[CurvePoint]], test: str) -> list[BdRate]:
    found = []
    for anchor in curves:
        for metric in (metric.name for metric in METRICS.values() if metric.features):
            lines = [curves[codec] for codec in (anchor, test)]
            if anchor != test and all(with_figure(line, metric) for line in lines):
                value = _between(lines[0], lines[1], metric)
                between = _range_between(lines[0], lines[1], metric)
                found.append(BdRate(test, anchor, metric, value, None, 0, between))
    return found


def _bd_rate(
    rows: Sequence[Row],
    curves: Mapping[str, Sequence[CurvePoint]],
    test: str,
    anchor: str,
    metric: str,
) -> BdRate:
    by_picture = [
        value
        for picture in _by_picture(rows).values()
        if (value := _of_picture(picture, test, anchor, metric)) is not None
    ]
    return BdRate(
        test,
        anchor,
        metric,
        of_means_percent=_between(curves[anchor], curves[test], metric),
        mean_of_pictures_percent=statistics.fmean(by_picture) if by_picture else None,
        pictures=len(by_picture),
        quality_range=_range_between(curves[anchor], curves[test], metric),
        of_means_interval=_interval_of_means(rows, test, anchor, metric),
        mean_of_pictures_interval=bootstrap_mean(by_picture),
    )


def picture_bd_rates(
    rows: Sequence[Row], test: str, anchor: str
) -> dict[str, dict[str, float | None]]:
    """Each picture's own BD-rates of `test` against `anchor` in percent, by picture and figure."""
    return {
        name: {metric: _of_picture(own, test, anchor, metric) for metric in own[0].figures}
        for name, own in _by_picture(rows).items()
    }


def _by_picture(rows: Sequence[Row]) -> dict[str, list[Row]]:
    pictures: dict[str, list[Row]] = {}
    for row in rows:
        pictures.setdefault(row.picture, []).append(row)
    return pictures


def _of_picture(rows: Sequence[Row], test: str, anchor: str, metric: str) -> float | None:
    return _between(
        [row for row in rows if row.codec == anchor],
        [row for row in rows if row.codec == test],
        metric,
    )


def _interval_of_means(rows: Sequence[Row], test: str, anchor: str, metric: str) -> Interval | None:
    """Bootstrap interval of the BD-rate of mean curves: means over the pictures of each sample."""
    pictures = list(dict.fromkeys(row.picture for row in rows))
    tables = [_table(rows, codec, metric, pictures) for codec in (anchor, test)]
    if any(len(table) < 2 for table in tables):
        return None

    def figure(draw: np.ndarray) -> float:
        (anchor_rate, anchor_quality), (test_rate, test_quality) = (
            table[:, :, draw].mean(axis=-1).T for table in tables
        )
        return bd_rate(
            anchor_rate,
            anchor_quality,
            test_rate,
            test_quality,
            higher_is_better=METRICS[metric].higher_is_better,
        )

    return bootstrap_interval(figure, len(pictures))


def _table(rows: Sequence[Row], codec: str, metric: str, pictures: Sequence[str]) -> np.ndarray:
    """Rate and quality [settings, 2, pictures] of the settings that a mean curve has."""
    by_setting: dict[str, dict[str, tuple[float, float]]] = {}
    for row, value in with_figure(rows, metric):
        if row.codec == codec:
            by_setting.setdefault(row.setting, {})[row.picture] = row.bpp, value
    table = [
        [[group[p][i] for p in pictures] for i in range(2)]
        for group in by_setting.values()
        if len(group) == len(pictures)
    ]
    return np.array(table, np.float64).reshape(len(table), 2, len(pictures))


def _between(
    anchor: Sequence[Row | CurvePoint], test: Sequence[Row | CurvePoint], metric: str
) -> float | None:
    """BD-rate of two lists of points, None if it is undefined."""
    curves = (*_points(anchor, metric), *_points(test, metric))
    value = bd_rate(*curves, higher_is_better=METRICS[metric].higher_is_better)
    return None if math.isnan(value) else value


def _range_between(
    anchor: Sequence[Row | CurvePoint], test: Sequence[Row | CurvePoint], metric: str
) -> tuple[float, float] | None:
    """The qualities that `_between` averages over."""
    curves = (*_points(anchor, metric), *_points(test, metric))
    return common_range(*curves, higher_is_better=METRICS[metric].higher_is_better)


def _points(line: Sequence[Row | CurvePoint], metric: str) -> tuple[list[float], list[float]]:
    """Rates and qualities of the points that have the figure."""
    usable = with_figure(line, metric)
    return [point.bpp for point, _ in usable], [value for _, value in usable]


def with_figure(line: Sequence[Point], metric: str) -> list[tuple[Point, float]]:
    """The points that have the figure, with it; a picture coded without loss has no PSNR."""
    found = ((point, point.figures.get(metric)) for point in line)
    return [(point, value) for point, value in found if value is not None and math.isfinite(value)]


def _mean(group: Sequence[Row]) -> CurvePoint:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if len(known) == len(values) else None

    return CurvePoint(
        codec=group[0].codec,
        model=group[0].model,
        setting=group[0].setting,
        pictures=len(group),
        bpp=statistics.fmean(row.bpp for row in group),
        figures={name: mean([row.figures.get(name) for row in group]) for name in METRICS},
        encode_seconds=statistics.median(row.encode_seconds for row in group),
        decode_seconds=statistics.median(row.decode_seconds for row in group),
    )
