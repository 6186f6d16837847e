"""The sweep over odd files: no tracebacks, each read or refused as it should be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rcodec_jax.data.pictures.images import read_image

sys.path.insert(0, str(Path(__file__).parent))
import odd
import sweep


def test_odd_files_are_read_or_refused_with_a_reason(tmp_path, capsys) -> None:
    count = odd.write(tmp_path / "odd")
    assert sweep.main([str(tmp_path / "odd"), "--code-px", "0"]) == 0
    said = capsys.readouterr().out
    assert sum(int(line.split()[1]) for line in said.splitlines()[: len(sweep.KINDS)]) == count
    upright = odd.photo()
    for path in (tmp_path / "odd").iterdir():
        found = sweep.outcome(path)
        read = "refused" if found.kind == "refused" else "ok"
        assert path.name.startswith(read), found
        assert found.kind != "differs", found
        if "_turned" in path.name and path.suffix == ".png":
            assert np.array_equal(read_image(path).pixels, upright), path


def test_faults_end_with_code_1(tmp_path, capsys, monkeypatch) -> None:
    odd_one = tmp_path / "plain.png"
    odd_one.write_bytes(dict(odd.odd_files())["ok_plain.png"])

    def wrong(pixels: np.ndarray) -> np.ndarray:
        return pixels[1:]

    assert sweep.outcome(odd_one, wrong, 10**6).kind == "fault"
    assert sweep.outcome(odd_one, wrong, 100).kind == "ok"  # too large to be coded
    monkeypatch.setattr(sweep, "read_image", lambda path: 1 // 0)
    assert sweep.main([str(tmp_path), "--code-px", "0"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
