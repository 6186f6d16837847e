"""`rcodec info`: what a file says of itself, without JAX."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.bitstream import Header, write_container
from rcodec_jax.cli.main import main
from rcodec_jax.entropy import encode_level_map


def make_file(levels: int) -> bytes:
    """A file of 50x37 pixels, 5x7 cells, whose payload is noise."""
    level_map = np.zeros((5, 7), np.uint8)
    level_map[2:] = levels - 1
    coded = encode_level_map(level_map, levels) if levels > 1 else b""
    header = Header(37, 50, 300, 300 if levels == 1 else 600, levels, b"\x01" * 8, b"\x02" * 4)
    return write_container(header, coded, b"payload")


@pytest.fixture(params=[1, 2, 16])
def levels(request) -> int:
    return request.param


@pytest.fixture
def file(tmp_path, levels) -> str:
    path = tmp_path / "photo.rdc"
    path.write_bytes(make_file(levels))
    return str(path)


def test_figures(file, levels, capsys):
    assert main(["info", file, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["width_px"], figures["height_px"]) == (50, 37)
    assert sum(figures["sections"].values()) == figures["bytes"] == len(make_file(levels))
    assert len(figures["nodes"]) == len(figures["cells"]) == levels
    assert sum(figures["cells"]) == 35 and figures["cells"][0] == (35 if levels == 1 else 14)
    assert figures["integer_digest"] == "01" * 8


def test_words(file, capsys):
    assert main(["info", file]) == 0
    out = capsys.readouterr().out
    assert "50x37" in out and "payload" in out and "0101010101010101" in out


def test_no_jax(file):
    code = (
        "import sys\n"
        "from rcodec_jax.cli.main import main\n"
        "code = main(['info', sys.argv[1]])\n"
        "sys.exit('imported JAX' if {'jax', 'jaxlib', 'flax'} & set(sys.modules) else code)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_damage_is_one_line(tmp_path, capsys):
    data = bytearray(make_file(2))
    data[6] ^= 1
    (tmp_path / "damaged.rdc").write_bytes(data)
    assert main(["info", str(tmp_path / "damaged.rdc")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bits_map(file, tmp_path, monkeypatch, capsys):
    bits = np.zeros((5, 7))
    bits[0, 0] = 40.0
    monkeypatch.setattr("rcodec_jax.cli.info.bits_of", lambda data, model: bits)
    target = tmp_path / "bits.png"
    assert main(["info", file, "--bits-map", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits"]["sum"] == 40.0
    with Image.open(target) as drawn:
        assert drawn.size == (50, 37)
    assert main(["info", file, "--bits-map", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
