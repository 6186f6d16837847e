"""`report.html`: a whole evaluation as one file that needs no network, for a browser or a mail."""

from __future__ import annotations

import base64
import importlib.util
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from rcodec_jax import files
from rcodec_jax.evaluate import chart
from rcodec_jax.evaluate.chart import Chart

TEMPLATES = Path(__file__).parent
MISSING = "page left out: it needs jinja2 (pip install 'rcodec-jax[eval]')"


@dataclass(frozen=True)
class Cell:
    """An entry of a table.

    Attributes:
      text: as shown.
      order: what the table is sorted by.
      bar: an interval as (low, value, high), drawn beside the text on the scale of its column.
    """

    text: str
    order: float | str
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by its columns.

    Attributes:
      bars: range of the column's intervals (low, high), None without any.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[Cell]]
    bars: tuple[float, float] | None = None


@dataclass(frozen=True)
class Version:
    """One of the pictures that are compared: its label, figures, and pixels as a data URI."""

    label: str
    detail: str
    uri: str


@dataclass(frozen=True)
class Comparison:
    """Versions of one crop, the original first."""

    title: str
    width_px: int
    height_px: int
    versions: list[Version]


@dataclass(frozen=True)
class Headline:
    """A figure in large type and what it says."""

    value: str
    text: str


@dataclass
class Page:
    """What the template shows, from top to bottom; empty parts are left out.

    Attributes:
      facts: label and value of machine, versions, command and the like.
      left_out: lines on pictures, files and packages that are missing.
    """

    title: str
    subtitle: str
    headlines: list[Headline] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    comparison_note: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def can_render() -> bool:
    """Whether jinja2 is installed."""
    return importlib.util.find_spec("jinja2") is not None


def render(template: str, **values: Any) -> str | None:
    """The named template of this folder with values filled in; None if jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        return None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_page(path: Path, page: Page) -> bool:
    """Writes the page as HTML. False if jinja2 is not installed."""
    text = render("page.html.j2", page=page, chart=chart)
    if text is None:
        return False
    files.atomic_write(path, text.encode())
    return True


def facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Machine, versions, options and command line of a report's content."""
    versions = content["versions"]
    options = {
        name: content[name]
        for name in ("lpips", "steps", "trajectory", "effort", "tune", "target_bpp", "roi_strength")
        if content.get(name) is not None
    }
    return [
        ("Command", shlex.join(content["command"])),
        ("Date", str(content["date"])),
        ("Machine", str(content["machine"])),
        ("Options", ", ".join(f"{name} {value}" for name, value in options.items()) or "defaults"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] without loss, as text that an <img> shows."""
    format = "WEBP" if features.check("webp") else "PNG"
    options = {"lossless": True, "method": 4} if format == "WEBP" else {"optimize": True}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def centre(height_px: int, width_px: int, side_px: int) -> tuple[slice, slice]:
    """Rows and columns of the middle, at most `side_px` square."""
    top, left = max(0, (height_px - side_px) // 2), max(0, (width_px - side_px) // 2)
    return slice(top, top + side_px), slice(left, left + side_px)


def number(value: float | None, form: str) -> Cell:
    """A cell with a number, or a dash that sorts last."""
    if value is None or math.isnan(value):
        return Cell("–", float("inf"))
    return Cell("∞" if math.isinf(value) else format(value, form), value)


def interval_cell(
    value: float | None, interval: Sequence[float] | None, form: str = "+.1f"
) -> Cell:
    """A cell with a number and the interval around it."""
    plain = number(value, form)
    if value is None or interval is None:
        return plain
    low, high = interval
    return Cell(f"{plain.text} ({low:{form}} to {high:{form}})", value, (low, value, high))


def bars_range(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """Range of the intervals of cells, with 0 in it."""
    ends = [end for cell in cells if cell.bar for end in (cell.bar[0], cell.bar[2])]
    if not ends:
        return None
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    return (low, high) if high > low else (low - 1, high + 1)
