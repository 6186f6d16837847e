"""`rcodec bench unet` at toy size: what it measures beside whom, with and without torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rcodec_jax.bench import peak, unet
from rcodec_jax.bench.peak import Peaks
from rcodec_jax.cli import bench_unet
from rcodec_jax.cli.main import main
from rcodec_jax.errors import RcodecError

PEAKS = Peaks(matmul_flops=1e12, conv_flops=1e12)
SIZE = (8, 8)

FAKE = """
import json, sys
job = json.loads(sys.argv[2])
print(json.dumps({"name": f"fake of {job['family']}"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["how"] == "compile":
        print(json.dumps({"error": "no compiler"}), flush=True)
    else:
        seconds = {"unet": 2.0, "decode": 3.0}[request["what"]]
        print(json.dumps({"seconds": seconds}), flush=True)
"""


@pytest.fixture
def python_with_torch(tmp_path: Path) -> str:
    """Something that answers as the script does."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    return str(python)


def test_rows_of_both_sides(python_with_torch: str) -> None:
    notes: list[str] = []
    with unet.TorchPeer(python_with_torch, {"family": "toys"}) as peer:
        assert peer.about["name"] == "fake of toys" and peer.missing is None
        rows = unet.run(
            unet.SMALL, [SIZE], dtype="float32", repeats=2, peaks=PEAKS, peer=peer,
            note=notes.append,
        )  # fmt: skip
    assert [(row.task, row.name) for row in rows] == [
        ("UNet step", unet.SCALAR),
        ("UNet step", unet.SPATIAL),
        ("UNet step", unet.EAGER),
        ("VAE decode", unet.DECODER),
        ("VAE decode", unet.EAGER),
    ]
    assert notes == [f"{unet.COMPILED} is left out: no compiler"] * 2
    assert {len(row.seconds) for row in rows} == {2}
    for row in rows:
        assert row.flops > 1e6 and row.best_s <= row.median_s
        assert row.of_peak == pytest.approx(row.flops / 1e12 / row.median_s)
    eager = unet.slower(rows, unet.SPATIAL, unet.EAGER)
    assert eager == {"UNet step 8x8": pytest.approx(rows[1].median_s / 2.0)}
    # both sides of a comparison are divided by the same work
    assert rows[0].flops == rows[1].flops == rows[2].flops


def test_an_interpreter_without_torch_says_so() -> None:
    with unet.TorchPeer(sys.executable, {}) as peer:
        if peer.missing is None:
            pytest.skip("torch is installed")
        assert peer.missing in ("torch", "diffusers")


def test_no_interpreter() -> None:
    with pytest.raises(RcodecError, match="expected a Python interpreter, got '/nowhere/python'"):
        unet.TorchPeer("/nowhere/python", {})
    with pytest.raises(RcodecError, match="the process with torch ended with code"):
        unet.TorchPeer("/bin/false", {})


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_unet.WIDTHS, "64", SIZE)
    monkeypatch.setattr(peak, "measure_peaks", lambda dtype, **_: PEAKS)
    words = ["bench", "unet", "--model-size", "small", "--size", "64", "--repeats", "1"]
    assert main([*words, "--no-torch", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["peer"] is None and figures["peaks"]["matmul_flops"] == 1e12
    assert [row["name"] for row in figures["rows"]] == [unet.SCALAR, unet.SPATIAL, unet.DECODER]
    assert set(figures["ratios"]["levels_16_over_1"]) == {"UNet step 8x8"}
