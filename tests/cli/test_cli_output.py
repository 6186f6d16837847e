"""Words, tables, progress bars and heat maps."""

from __future__ import annotations

import io
import json

import numpy as np

from rcodec_jax.cli import heatmap, output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_are_one_line(capsys):
    output.message("error", "two\n  lines")
    assert capsys.readouterr().err == "rcodec: error: two lines\n"


def test_json_takes_numpy():
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": b"\x01\xff", "d": (1, 2)}
    assert json.loads(output.to_json(value)) == {"a": 0.5, "b": [0, 1], "c": "01ff", "d": [1, 2]}


def test_table_lines_up():
    lines = output.table(("name", "n"), [("a", "1"), ("long one", "100")]).splitlines()
    assert lines == ["name        n", "a           1", "long one  100"]


def test_sizes_are_in_decimal_units():
    sizes = (1, 999, 1234, 1_234_567, 1.5e9, 1.234e12)
    words = ["1 byte", "999 bytes", "1.2 kB", "1.2 MB", "1.50 GB", "1,234.00 GB"]
    assert [output.size_in_words(size) for size in sizes] == words


def test_one_of_a_thing_is_no_plural():
    words = [output.counted(count, "file") for count in (0, 1, 2, 1234)]
    assert words == ["0 files", "1 file", "2 files", "1,234 files"]


def test_progress_is_silent_where_nobody_looks():
    stream = io.StringIO()
    with output.Progress("work", stream) as progress:
        progress.update(1, 2, "half")
    assert stream.getvalue() == ""


def test_progress_draws_and_cleans_up():
    stream = Terminal()
    with output.Progress("work", stream) as progress:
        progress.update(1, 2, "half")
        progress.update(2, 2, "all")
    drawn = stream.getvalue()
    assert "1/2" in drawn and "2/2" in drawn
    assert drawn.endswith("\x1b[K")


def test_colours_get_lighter():
    rgb = heatmap.colours(np.linspace(0, 1, 101)).astype(np.float64)
    lightness = rgb @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(lightness) > 0)
    np.testing.assert_array_equal(heatmap.colours(np.array([-1.0, 2.0, np.nan])),
                                  heatmap.colours(np.array([0.0, 1.0, 0.0])))  # fmt: skip


def test_map_has_the_pictures_size_and_shows_the_dear_cells():
    bits = np.zeros((5, 7))
    bits[2, 3] = 9.0
    picture = heatmap.draw(bits, 37, 50, peak=9.0)
    assert picture.shape == (37, 50, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[16:24, 24:32], heatmap.colours(np.ones((8, 8))))
    np.testing.assert_array_equal(picture[:16], heatmap.colours(np.zeros((16, 50))))
    halved = heatmap.draw(bits, 79, 99, peak=9.0)  # 5 x 7 cells of 40 x 50 pixels
    np.testing.assert_array_equal(halved[:74, :99], picture.repeat(2, 0).repeat(2, 1)[:74, :99])
    heatmap.draw(np.zeros((5, 7)), 37, 50)  # nothing spent anywhere is no division by zero
