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
from rcodec_jax.codec.bitsmap import Bits
from rcodec_jax.entropy import (
    Conv,
    DepthToSpace,
    GaussianTables,
    IntegerNetwork,
    IntegerPart,
    LevelContext,
    StaticTables,
    encode_level_map,
    encode_symbols,
)
from rcodec_jax.levels import level_nodes


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
    assert figures["levels"] == levels and figures["media_type"] == "image/x-rcodec"
    assert (figures["cell_rows"], figures["cell_columns"], figures["cell_px"]) == (5, 7, 8)
    assert figures["ratio"] == pytest.approx(3 * 50 * 37 / figures["bytes"])
    assert figures["model_ships"] is False


def test_several_files_take_a_line_each(file, tmp_path, capsys):
    (tmp_path / "broken.rdc").write_bytes(b"rdc")
    assert main(["info", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["file", file, "1"]
    assert out.splitlines()[-1].startswith("1 file ")
    assert err.count("broken.rdc: ") == 1 and "rcodec: error: 1 of 2 files failed:\n" in err
    assert main(["info", file, file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["files"]) == 2 and told["pixels"] == 2 * 50 * 37


def test_words(file, capsys):
    assert main(["info", file]) == 0
    out = capsys.readouterr().out
    assert "50x37" in out and "payload" in out and "0101010101010101" in out


def run_without_jax(*words: str) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own, which fails if it imports JAX."""
    code = (
        "import sys\n"
        "from rcodec_jax.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit('imported JAX' if {'jax', 'jaxlib', 'flax'} & set(sys.modules) else code)\n"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_no_jax(file):
    result = run_without_jax("info", file)
    assert result.returncode == 0, result.stderr


def test_damage_is_one_line(tmp_path, capsys):
    data = bytearray(make_file(2))
    data[6] ^= 1
    (tmp_path / "damaged.rdc").write_bytes(data)
    assert main(["info", str(tmp_path / "damaged.rdc")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rcodec: error: {tmp_path / 'damaged.rdc'}: ") and "at byte" in line


def test_bits_map(file, tmp_path, monkeypatch, capsys):
    bits = np.zeros((5, 7))
    bits[0, 0] = 40.0
    monkeypatch.setattr("rcodec_jax.codec.bitsmap.bits_of", lambda *_: Bits(bits, 10.0, 30.0))
    target = tmp_path / "bits.png"
    assert main(["info", file, "--bits-map", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits"]["cell_max"] == 40.0
    with Image.open(target) as drawn:
        assert drawn.size == (50, 37)
    assert main(["info", file, "--bits-map", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["info", file, "--bits-map", str(target), "--force"]) == 0
    assert f"heat map written to {target}\n" in capsys.readouterr().out


def make_part() -> IntegerPart:
    """One channel of each kind, a prior that hardly looks at z."""

    def conv(cin: int, cout: int) -> Conv:
        return Conv(np.full((1, 1, cin, cout), 100, np.int16), np.zeros(cout, np.int64), 6)

    layers = [conv(1, 32), DepthToSpace(), DepthToSpace(), conv(2, 2)]
    return IntegerPart(
        latent_channels=1,
        hyper_channels=1,
        hyper_stride=4,
        node_log2_s=np.round(np.linspace(3, -9, 1024) * 2048).astype(np.int32),
        node_class=np.zeros(1024, np.uint8),
        gaussian=GaussianTables.build(),
        hyper_tables=StaticTables.build([[(-1, np.array([0.25, 0.5, 0.25]))]]),
        network=IntegerNetwork(layers),
    )


def test_bits_are_those_of_the_payload(tmp_path):
    part = make_part()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "integer.safetensors").write_bytes(part.to_bytes())
    rng = np.random.default_rng(0)
    level_map = np.zeros((30, 40), np.uint8)
    level_map[10:20, 10:20] = 1
    levels = LevelContext(level_nodes(200, 500, 2), level_map)
    z, j = rng.integers(-1, 2, (8, 10, 1)), rng.integers(-3, 4, (30, 40, 1))
    payload = encode_symbols(part, z, j, levels)
    header = Header(240, 320, 200, 500, 2, part.digest, bytes(4))
    data = write_container(header, encode_level_map(level_map, 2), payload)
    (tmp_path / "p.rdc").write_bytes(data)
    bits_map = tmp_path / "bits.png"
    words = ["info", str(tmp_path / "p.rdc"), "--model", str(tmp_path / "bundle"), "--json"]
    result = run_without_jax(*words, "--bits-map", str(bits_map))
    assert result.returncode == 0, result.stderr
    bits = json.loads(result.stdout)["bits"]
    assert bits["cell_mean"] * 30 * 40 == pytest.approx(bits["hyper"] + bits["latent"])
    assert len(payload) * 8 == pytest.approx(bits["hyper"] + bits["latent"], rel=0.005, abs=64)
    with Image.open(bits_map) as drawn:
        assert drawn.size == (320, 240)


def test_a_file_of_another_model_names_it(file, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "integer.safetensors").write_bytes(make_part().to_bytes())
    assert main(["info", file, "--model", str(tmp_path / "bundle")]) == 2
    assert "0101010101010101" in capsys.readouterr().err
