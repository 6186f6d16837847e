"""The page of a rate-distortion run (see `evaluate.page`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcodec_jax.evaluate import crops
from rcodec_jax.evaluate.chart import charts
from rcodec_jax.evaluate.coders import Coder
from rcodec_jax.evaluate.curves import BdRate, CurvePoint, picture_bd_rates
from rcodec_jax.evaluate.metric import METRICS, measured
from rcodec_jax.evaluate.page import (
    Cell,
    Headline,
    Page,
    Table,
    bars_range,
    facts,
    interval_cell,
    number,
)
from rcodec_jax.evaluate.run import Row, Run

_JUDGES = ("lpips", "ssimulacra2", "ms_ssim", "psnr_db")
"""The best peer is the one that costs least at an equal figure, the first of these measured."""


def folder_page(
    content: Mapping[str, Any],
    measured: Run,
    curves: Mapping[str, Sequence[CurvePoint]],
    bd_rates: Sequence[BdRate],
    coders: Sequence[Coder],
    *,
    root: Path,
    kept: Path,
) -> Page:
    """What the page says.

    Args:
      content: that of report.json.
      coders: the first is this project's.
      root, kept: folders of the pictures and of the coded files.
    """
    own, rows = coders[0], measured.rows
    judge, best = best_peer(bd_rates)
    peer = next((coder for coder in coders if coder.name == best), None)
    count = len({row.picture for row in rows})
    others = [name for name in curves if name != own.name]
    against = f" against {', '.join(others)}" if others else ""
    page = Page(
        title=f"rcodec{against} on {count} pictures",
        subtitle=f"{own.model or 'model without a card'} · {content['date'][:10]}",
        headlines=[_headline(found) for found in bd_rates if found.anchor == best],
        legend=[points[0].label for points in curves.values() if points],
        charts=charts({c: p for c, p in curves.items() if p}, lpips_net=content["lpips"]),
        comparisons=crops.compare(rows, own, peer, root=root, kept=kept),
        comparison_note=crops.NOTE,
        facts=facts(content),
    )
    if peer is not None:
        by = f", the best one by {_short(judge)}" if judge else ""
        page.comparison_note += f" The peer is {best}{by}."
    if bd_rates:
        page.tables.append(_bd_table(bd_rates))
    page.tables.append(_picture_table(rows, own.name, best))
    page.tables.append(_curve_table(curves))
    page.left_out = list(content["notes"]) + [
        " ".join(part for part in (s.picture, s.codec, s.setting) if part) + f": {s.reason}"
        for s in measured.skipped
    ]
    return page


def best_peer(bd_rates: Sequence[BdRate]) -> tuple[str, str]:
    """The figure that judges, and the peer that is best by it; both empty without peers."""
    for judge in _JUDGES:
        known = [
            (found.of_means_percent, found.anchor)
            for found in bd_rates
            if found.metric == judge and found.of_means_percent is not None
        ]
        if known:
            return judge, max(known)[1]
    return "", bd_rates[0].anchor if bd_rates else ""


def _headline(found: BdRate) -> Headline:
    text = f"bytes against {found.anchor} at equal {_short(found.metric)}"
    if found.of_means_percent is None:
        return Headline("–", f"{text}: the curves do not meet")
    if found.of_means_interval is not None:
        low, high = found.of_means_interval
        text += f" (95 %: {low:+.0f} to {high:+.0f} %)"
    return Headline(f"{found.of_means_percent:+.0f} %".replace("-", "−"), text)


def _bd_table(bd_rates: Sequence[BdRate]) -> Table:
    rows = [
        [
            Cell(f"{found.anchor}, {_short(found.metric)}", f"{found.anchor} {found.metric}"),
            interval_cell(found.of_means_percent, found.of_means_interval),
            interval_cell(found.mean_of_pictures_percent, found.mean_of_pictures_interval),
            number(found.pictures, "d"),
        ]
        for found in bd_rates
    ]
    return Table(
        "Rate difference at equal quality (BD-rate)",
        "Percent of the other codec's bytes; negative: rcodec needs fewer. In brackets and as bars "
        "95 % bootstrap intervals over the pictures.",
        ["against, at equal", "of mean curves %", "mean over pictures %", "pictures"],
        rows,
        bars_range([cell for row in rows for cell in row]),
    )


def _picture_table(rows: Sequence[Row], own: str, best: str) -> Table:
    metrics = measured(row.figures for row in rows)
    by_picture = picture_bd_rates(rows, own, best) if best else {}
    lines = []
    for name in dict.fromkeys(row.picture for row in rows):
        row = crops.middle_row(rows, name, own)
        if row is None:
            continue
        line = [Cell(name, name), number(row.width_px * row.height_px / 1e6, ".2f")]
        line += [number(row.size_bytes, ",d"), number(row.bpp, ".4f")]
        line += [number(row.figures.get(m.name), f".{m.digits}f") for m in metrics]
        if best:
            line += [number(by_picture[name].get(m.name), "+.1f") for m in metrics]
        lines.append(line)
    titles = [m.page_title + m.unit for m in metrics]
    columns = ["picture", "megapixels", "bytes", "bpp", *titles]
    columns += [f"{m.page_title}: % against {best}" for m in metrics] if best else []
    note = "rcodec at its middle setting"
    note += f"; the last columns are the picture's own BD-rate against {best}." if best else "."
    return Table("By picture", f"{note} A column's name sorts by it.", columns, lines)


def _curve_table(curves: Mapping[str, Sequence[CurvePoint]]) -> Table:
    points = [point for line in curves.values() for point in line]
    metrics = measured(point.figures for point in points)
    rows = [
        [
            Cell(f"{point.codec} {point.setting}", f"{point.codec} {point.bpp:09.4f}"),
            number(point.bpp, ".4f"),
            *(number(point.figures.get(m.name), f".{m.digits}f") for m in metrics),
            number(point.encode_seconds, ".3f"),
            number(point.decode_seconds, ".3f"),
        ]
        for point in points
    ]
    titles = [m.page_title + m.unit for m in metrics]
    columns = ["codec, setting", "bpp", *titles, "encode s", "decode s"]
    return Table(
        "Mean curves", "What the plots show; seconds are medians on this machine.", columns, rows
    )


def _short(metric: str) -> str:
    return METRICS[metric].page_title
