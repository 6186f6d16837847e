"""The page: whole HTML with nothing from elsewhere, figures as measured, text that stays text."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.evaluate import chart, command, crops, folderpage, page
from rcodec_jax.evaluate.curves import BdRate, CurvePoint

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Reader(html.parser.HTMLParser):
    """Collects tags, and refuses elements that are left open or closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def point(codec: str, bpp: float, psnr: float, lpips: float | None = None) -> CurvePoint:
    return CurvePoint(codec, f"q={bpp}", 2, bpp, {"psnr_db": psnr, "lpips": lpips}, 0.1, 0.1)


def test_plots_place_points_by_their_figures() -> None:
    curves = {
        "rcodec": [point("rcodec", 0.1, 25, 0.3), point("rcodec", 0.4, 31, 0.1)],
        "jpeg": [point("jpeg", 0.2, 28, 0.4), point("jpeg", 3.0, 40, 0.01)],
    }
    psnr, lpips = chart.charts(curves, lpips_net="alex")
    assert psnr.title == "PSNR (dB)" and lpips.title == "LPIPS (alex), lower is better (up)"
    own, other = psnr.lines
    low, high = own.marks
    assert len(other.marks) == 1, "a point far past the first codec's rates is outside"
    assert low.text == "rcodec q=0.1: 25.00 at 0.1000 bpp"
    assert chart.LEFT <= low.x < other.marks[0].x < high.x <= chart.WIDTH - chart.RIGHT
    # Rates are logarithmic: .2 lies half way between .1 and .4, as 28 dB does between 25 and 31.
    assert other.marks[0].x == pytest.approx((low.x + high.x) / 2, abs=0.2)
    assert other.marks[0].y == pytest.approx((low.y + high.y) / 2, abs=0.2)
    assert high.y < low.y and lpips.lines[0].marks[1].y < lpips.lines[0].marks[0].y
    assert [tick.text for tick in psnr.x_ticks] == ["0.1", "0.15", "0.2", "0.3", "0.5"]
    assert chart.rate_ticks(0.02, 1.5) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1])
    at = {tick.text: tick.at for tick in psnr.y_ticks}
    assert at["26"] > at["28"] == pytest.approx(other.marks[0].y, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (24.7, 33.1), (-30.0, 60.0), (0.93, 0.97)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = chart.ticks(low, high)
    assert 2 <= len(found) <= 8 and low <= found[0] and found[-1] <= high + 1e-9
    step = found[1] - found[0]
    assert re.fullmatch(r"[125]0*e[+-]\d+", f"{step:.0e}")


def test_the_best_peer_is_the_one_that_costs_least_by_the_first_judge() -> None:
    def found(anchor: str, metric: str, percent: float | None) -> BdRate:
        return BdRate("rcodec", anchor, metric, percent, None, 1, None)

    rates = [
        found("jpeg", "psnr_db", 90.0),
        found("jpeg", "lpips", -50.0),
        found("avif", "lpips", -20.0),
        found("webp", "lpips", None),
    ]
    assert folderpage.best_peer(rates) == ("lpips", "avif")
    assert folderpage.best_peer(rates[:1]) == ("psnr_db", "jpeg")
    assert folderpage.best_peer([]) == ("", "")


def test_the_page_of_a_run(tmp_path: Path, fake_codec: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i, name in enumerate(("a", "<b>&", "c")):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    settings = command.Settings(card={"name": "fake"})
    result = command.evaluate_folder(
        fake_codec, folder, out, settings, qualities=(20, 40, 60), peer_names=("jpeg",)
    )
    text = (out / "report.html").read_text()
    reader = read(text)
    # One file: nothing is fetched, and what is shown is inside.
    for tag, attrs in reader.tags:
        for name in ("src", "href", "action"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, attrs)
    assert not reader.named("link") and "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "http" not in text.replace("http-equiv", "")
    # A name is a name, whatever it looks like.
    assert "&lt;b&gt;&amp;.png" in text and not reader.named("b")[0].get("png")
    assert "<b>&amp;.png" not in text and "<b>&.png" not in text
    for words in ("rcodec against jpeg on 3 pictures", "fake", "broken.png", "CPU cores"):
        assert words in reader.text
    # Figures are those of the report.
    found = result.bd_rates[0]
    assert found.metric == "psnr_db" and found.of_means_interval is not None
    low, high = found.of_means_interval
    assert f"{found.of_means_percent:+.1f} ({low:+.1f} to {high:+.1f})" in reader.text
    tips = [attrs["data-tip"] for attrs in reader.named("use") if "data-tip" in attrs]
    middle = result.curves["rcodec"][1]
    assert f"rcodec quality=40: {middle.figures['psnr_db']:.2f} at {middle.bpp:.4f} bpp" in tips
    # Crops are the pixels of original and files, without loss.
    images = reader.named("img")
    assert [image["data-label"] for image in images] == ["original", "rcodec", "jpeg"] * 3
    with Image.open(folder / "<b>&.png") as picture:
        shown = _pixels(images[0]["src"])
        np.testing.assert_array_equal(shown, np.asarray(picture))
    coded = (out / "files" / "<b>&.png" / "rcodec_quality=40.rdc").read_bytes()
    np.testing.assert_array_equal(_pixels(images[1]["src"]), fake_codec.decode(coded))


def _pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as image:
        return np.asarray(image.convert("RGB"))


def test_a_peer_is_shown_at_the_bytes_nearest_to_ours() -> None:
    from rcodec_jax.evaluate.run import Row

    row = Row("a", "x", "1", 8, 8, 100, 1.0, {"psnr_db": 20.0}, 0.1, 0.1)
    rows = [dataclasses.replace(row, size_bytes=size) for size in (300, 100, 200)]
    middle = crops.middle_row(rows, "a", "x")
    assert middle is not None and middle.size_bytes == 200
    near = crops.nearest_row(rows, "a", "x", 260)
    assert near is not None and near.size_bytes == 300
    assert crops.middle_row(rows, "b", "x") is None


def test_cells_without_a_number_sort_last() -> None:
    assert page.number(None, ".1f") == page.Cell("–", float("inf"))
    assert page.number(float("inf"), ".1f").text == "∞"
    cell = page.interval_cell(-3.0, (-5.0, -1.0))
    assert cell == page.Cell("-3.0 (-5.0 to -1.0)", -3.0, (-5.0, -3.0, -1.0))
    assert page.bars_range([cell]) == (-5.0, 0.0) and page.bars_range([]) is None


def test_without_jinja2_the_page_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert not page.write_page(tmp_path / "x.html", page.Page("t", "s"))
    assert not (tmp_path / "x.html").exists()


def test_an_empty_page_is_whole() -> None:
    text = page.render("page.html.j2", page=page.Page("t", "s"), chart=chart)
    assert text is not None and read(text).named("title")
