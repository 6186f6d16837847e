"""The page of an evaluation with masks (see `evaluate.page`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rcodec_jax.data import read_image, read_mask
from rcodec_jax.errors import RcodecError
from rcodec_jax.evaluate.page import (
    Cell,
    Comparison,
    Headline,
    Page,
    Table,
    Version,
    bars_range,
    data_uri,
    facts,
    interval_cell,
    number,
)
from rcodec_jax.evaluate.roi import MaskedPicture, RoiRow, RoiRun
from rcodec_jax.evaluate.roirivals import Gain, chosen

PICTURES = 6
SIDE_PX = 448
"""Most pictures that are shown, and the side of a crop around the region's middle."""

FIGURES = {
    "roi_psnr_db": ("region's PSNR, dB", "+.2f"),
    "background_psnr_db": ("background's PSNR, dB", "+.2f"),
    "lpips": ("LPIPS of the picture", "+.4f"),
    "roi_lpips": ("LPIPS over the region", "+.4f"),
    "roi_lpips_composite": ("LPIPS of the composite", "+.4f"),
    "roi_ssimulacra2": ("SSIMULACRA 2 of the composite", "+.1f"),
}
"""Name and format of each figure that is compared."""


def roi_page(
    content: Mapping[str, Any],
    measured: RoiRun,
    gains: Sequence[Gain],
    pictures: Sequence[MaskedPicture],
    read: Callable[[RoiRow], np.ndarray],
) -> Page:
    """What the page says.

    Args:
      content: that of roi.json.
      read: makes pixels of a row's file.
    """
    rows = measured.rows
    rivals = [gain.rival for gain in gains if gain.rival != "uniform"]
    names = list(dict.fromkeys(["uniform files", *rivals]))
    count = content["summary"]["pictures"]
    page = Page(
        title=f"Regions of interest at equal bytes against {', '.join(names)}: {count} pictures",
        subtitle=f"{rows[0].model or 'model without a card'} · {content['date'][:10]}",
        headlines=[_headline(gain) for gain in gains if gain.figure == "roi_psnr_db"],
        comparisons=_comparisons(rows, list(dict.fromkeys(rivals)), pictures, read, content),
        comparison_note="Around the middle of the region, without loss from the files that were "
        "measured. Move the pointer or the slider; choose what is left and right of it.",
        facts=facts(content),
    )
    page.tables = [_gain_table(figure, gains) for figure in FIGURES]
    page.tables = [table for table in page.tables if table.rows]
    page.tables.append(_row_table(rows))
    page.left_out = [*content["notes"], *(f"{name}: {reason}" for name, reason in measured.skipped)]
    return page


def _headline(gain: Gain) -> Headline:
    text = f"region's PSNR against {gain.rival} at equal bytes"
    if gain.interval is not None:
        text += f" (95 %: {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f} dB)"
    return Headline(f"{gain.mean:+.2f} dB".replace("-", "−"), text)


def _gain_table(figure: str, gains: Sequence[Gain]) -> Table:
    title, form = FIGURES[figure]
    rows = []
    for gain in (gain for gain in gains if gain.figure == figure):
        strengths = ", ".join(f"{name}: {count}" for name, count in gain.strengths.items())
        rows.append(
            [
                Cell(gain.rival, gain.rival),
                interval_cell(gain.mean, gain.interval, form),
                number(100 * gain.bytes_ratio, ".1f"),
                number(gain.pictures, "d"),
                Cell(strengths or "–", strengths),
            ]
        )
    better = "negative" if "lpips" in figure else "positive"
    return Table(
        f"Region file minus rival: {title}",
        f"{better.capitalize()} is better for rcodec. In brackets and as bars: 95 % bootstrap "
        "intervals over the pictures. A rival's strength is the best one for the picture's region.",
        ["against", "difference", "rival's bytes %", "pictures", "strengths chosen"],
        rows,
        bars_range([cell for row in rows for cell in row]),
    )


def _row_table(rows: Sequence[RoiRow]) -> Table:
    lines = [
        [
            Cell(f"{row.picture} {row.kind}", f"{row.picture} {row.kind}"),
            number(row.size_bytes, ",d"),
            number(row.bpp, ".4f"),
            number(row.roi_psnr_db, ".2f"),
            number(row.background_psnr_db, ".2f"),
            number(row.lpips, ".4f"),
            number(row.roi_lpips_composite, ".4f"),
            number(row.roi_ssimulacra2, ".1f"),
        ]
        for row in rows
    ]
    columns = ["picture, file", "bytes", "bpp", "region dB", "background dB", "LPIPS"]
    columns += ["composite's LPIPS", "its SSIMULACRA 2"]
    return Table("Every file", "A column's name sorts by it.", columns, lines)


def _comparisons(
    rows: Sequence[RoiRow],
    rivals: Sequence[str],
    pictures: Sequence[MaskedPicture],
    read: Callable[[RoiRow], np.ndarray],
    content: Mapping[str, Any],
) -> list[Comparison]:
    measured = {row.picture for row in rows}
    having = [item for item in pictures if item.name in measured]
    step = max(1, len(having) / PICTURES)
    made = []
    for item in (having[int(i * step)] for i in range(min(PICTURES, len(having)))):
        best = [chosen(rows, kind).get(item.name) for kind in ("roi", "uniform", *rivals)]
        try:
            original = read_image(item.image).pixels
            mask = read_mask(
                item.mask, original.shape[:2], content["roi_id"] if item.labels else None
            )
            window = around(mask, SIDE_PX)
            versions = [Version("original", "", data_uri(original[window]))]
            versions += [
                Version(
                    row.kind,
                    f"{row.size_bytes:,} bytes, region {row.roi_psnr_db:.2f} dB, "
                    f"background {row.background_psnr_db:.2f} dB",
                    data_uri(read(row)[window]),
                )
                for row in best
                if row is not None
            ]
        except (OSError, RcodecError):
            continue
        height_px, width_px = original[window].shape[:2]
        made.append(Comparison(item.name, width_px, height_px, versions))
    return made


def around(mask: np.ndarray, side_px: int) -> tuple[slice, slice]:
    """Rows and columns of a window around the middle of the region, within the picture."""
    window = []
    for axis, size in enumerate(mask.shape):
        weight = mask.sum(axis=1 - axis)
        middle = float(weight @ np.arange(size)) / max(float(weight.sum()), 1e-9)
        first = max(0, min(int(middle) - side_px // 2, size - side_px))
        window.append(slice(first, first + side_px))
    return window[0], window[1]
