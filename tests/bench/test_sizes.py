"""rcodec bench sizes: pictures of any size, and a row for each codec on each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from rcodec_jax.bench import sizes
from rcodec_jax.bench.codec import Command
from rcodec_jax.cli.main import main
from rcodec_jax.errors import RcodecError


def test_mirrored_copies_have_no_edges_of_their_own() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    made = sizes.mirrored(pixels, 8, 13)
    assert made.shape == (8, 13, 3)
    np.testing.assert_array_equal(made[:3, :5], pixels)
    np.testing.assert_array_equal(made[3:6, 5:10], pixels[::-1, ::-1])
    np.testing.assert_array_equal(made[6:, 10:], pixels[:2, :3])
    np.testing.assert_array_equal(sizes.mirrored(pixels, 2, 4), pixels[:2, :4])


@pytest.mark.parametrize("megapixels", [0.01, 1, 6, 24, 100])
def test_sides_are_three_to_two(megapixels: float) -> None:
    height, width = sizes.sides(megapixels)
    assert width / height == pytest.approx(1.5, rel=0.03)
    assert height * width == pytest.approx(megapixels * 1e6, rel=0.05)


def test_rows_of_ours_and_of_peers(monkeypatch, capsys) -> None:
    """Our commands are timed elsewhere; here they are known: each runs twice, the second counts."""
    calls = []

    def run_command(words, *, cache):
        calls.append(words[0])
        kind, source, target = words[:3]
        if kind == "encode":
            with Image.open(source) as picture:
                assert picture.size == (124, 82)
            Path(target).write_bytes(bytes(1000))
        return Command(len(calls), 100.0, 1.0)

    monkeypatch.setattr(sizes, "run_command", run_command)
    assert main(["bench", "sizes", "--megapixels", "0.01", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    rows = figures["rows"]
    assert figures["failed"] == [] and figures["effort"] == 1
    assert calls == ["encode", "encode", "decode", "decode"]
    assert rows[0]["name"] == "rcodec" and rows[0]["bpp"] == pytest.approx(8000 / (124 * 82))
    assert (rows[0]["encode"]["seconds"], rows[0]["decode"]["seconds"]) == (2, 4)
    peers = {row["name"]: row for row in rows[1:]}
    assert ("AVIF" in peers) == (features.check("avif") is True)
    for peer in peers.values():
        assert peer["bpp"] > 0 and peer["encode"]["peak_mib"] > 1 and peer["decode"]["cpu_s"] > 0


def test_what_fails_costs_its_own_row_alone(monkeypatch, capsys) -> None:
    def run_command(words, *, cache):
        raise RcodecError("rcodec encode failed with code -9: it said nothing")

    monkeypatch.setattr(sizes, "run_command", run_command)
    assert main(["bench", "sizes", "--megapixels", "0.01"]) == 1
    said = capsys.readouterr().out
    assert "0.01 megapixels: rcodec encode failed with code -9" in said and "AVIF" in said
