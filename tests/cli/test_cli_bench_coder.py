"""rcodec bench coder: rows, figures, and peers that are not installed."""

from __future__ import annotations

import json

import pytest

from rcodec_jax.bench import coder, coderpeers
from rcodec_jax.cli.main import main

NO_PEERS = {"constriction": "rcodec_no_such_module", "compressai": "rcodec_no_such_module"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(coder, "SIZES", (300, 1000, 5000))
    monkeypatch.setattr(coder, "_LEAST_TIME_S", 0.0)
    monkeypatch.setattr(coder, "_ROUNDS", 1)


def test_rows_and_json(monkeypatch, capsys):
    monkeypatch.setattr(coderpeers, "MODULES", NO_PEERS)
    assert main(["bench", "coder", "--max-symbols", "1000", "--json"]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["missing"] == ["constriction", "compressai"]
    assert "constriction is not installed" in captured.err
    assert [row["symbols"] for row in figures["rows"]] == [300, 1000]
    for row in figures["rows"]:
        assert row["name"] == "rcodec" and row["encode_rate"] > 0 and row["decode_rate"] > 0
        assert -1 <= row["over_bytes"] <= 0.001 * row["ideal_bytes"] + 8
        assert row["size_bytes"] == pytest.approx(row["over_bytes"] + row["ideal_bytes"])


def test_lanes_are_measured_too(monkeypatch, capsys):
    monkeypatch.setattr(coder, "LANES_FROM", 5000)
    monkeypatch.setattr(coderpeers, "MODULES", NO_PEERS)
    assert main(["bench", "coder", "--max-symbols", "5000"]) == 0
    assert "5,000" in capsys.readouterr().out


def test_constriction_codes_the_same_symbols(monkeypatch, capsys):
    pytest.importorskip("constriction")
    monkeypatch.setattr(coder, "SIZES", (1000,))
    assert main(["bench", "coder", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    for name in ("constriction range", "constriction ANS", "constriction range, sorted before"):
        assert abs(rows[name]["over_bytes"]) < 16
    assert rows["constriction range"]["ideal_bytes"] == rows["rcodec"]["ideal_bytes"]
