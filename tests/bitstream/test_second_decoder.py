"""FORMAT.md is enough to write a decoder: one written from it alone reads the same symbols."""

from __future__ import annotations

import importlib
import json
import lzma
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rcodec_jax.entropy import LevelContext, ToneMap, dither_indices, encode_tone
from rcodec_jax.entropy.tone import grid_shape
from rcodec_jax.model.bundle import load_integers, shipped_bundle

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(path.name for path in GOLDEN.glob("*.rdc"))
OTHERS = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/*.rdc"))
"""Files of models whose prior varies, without and with a context network; some are in lanes."""


@pytest.fixture(scope="module")
def second() -> ModuleType:
    """The second decoder; it lies beside this file, in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return importlib.import_module("reference_decoder")


@pytest.fixture(scope="module")
def part(second):
    network = importlib.import_module("reference_network")
    return network.read_part((GOLDEN / "nano" / "integer.safetensors").read_bytes())


def assert_it_reads(decode, part, path: Path) -> None:
    record = json.loads((path.parent / "golden.json").read_text(encoding="utf-8"))
    recorded = record["files"][path.name]
    decoded = decode(path.read_bytes(), part)
    found = decoded.hashes()
    assert found == {key: recorded[key] for key in found}
    assert list(decoded.container.shown) == recorded["size"]


@pytest.mark.parametrize("name", FILES)
def test_it_reads_the_golden_files(second, part, name) -> None:
    assert_it_reads(second.decode, part, GOLDEN / name)


@pytest.mark.parametrize("name", OTHERS)
def test_it_reads_files_of_a_varying_prior(second, name) -> None:
    path = GOLDEN / name
    packed = (path.parent / "integer.safetensors.xz").read_bytes()
    network = importlib.import_module("reference_network")
    assert_it_reads(second.decode, network.read_part(lzma.decompress(packed)), path)


def test_it_borrows_nothing() -> None:
    for path in Path(__file__).parent.glob("reference_*.py"):
        text = path.read_text(encoding="utf-8")
        assert "rcodec_jax" not in text and "numpy" not in text, path.name


def test_it_refuses_what_the_page_refuses(second, part) -> None:
    """Every changed byte of a small file."""
    error = importlib.import_module("reference_stream").FormatError
    data = (GOLDEN / "odd_box.rdc").read_bytes()
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        with pytest.raises(error):
            second.decode(changed, part)


def test_its_dither_is_the_package_s(second) -> None:
    assert second.dither(7 * 9 * 5) == dither_indices(7, 9, 5).reshape(-1).tolist()


def test_its_network_is_the_package_s(second) -> None:
    """On the model that ships; the nano model's priors hardly depend on z."""
    network = importlib.import_module("reference_network")
    own = network.read_part((shipped_bundle() / "integer.safetensors").read_bytes())
    part = load_integers(shipped_bundle())
    s = part.hyper_stride
    rng = np.random.default_rng(4)
    z = rng.integers(-9, 10, (1, 2, part.hyper_channels))
    nodes = np.array([10, 300, 301, 900], np.int32)
    level_map = rng.integers(0, 4, (s, 2 * s)).astype(np.uint8)
    prior = part.predict(z, LevelContext(nodes, level_map))
    expected = np.concatenate([prior.mean, prior.log2_sigma], axis=-1)
    assert np.unique(expected).size > 100
    assert network.predict(own, z.tolist(), nodes[level_map].tolist()) == expected.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_it_reads_tone_maps(second, seed) -> None:
    stream = importlib.import_module("reference_stream")
    rng = np.random.default_rng(seed)
    spacing, step = 32 << seed, 1 << seed
    grid = rng.integers(-(9**seed), 9**seed + 1, grid_shape(150, 300, spacing)).astype(np.int32)
    found = stream.decode_tone(encode_tone(ToneMap(spacing, step, grid)), 150, 300)
    assert found == (spacing, step, grid.tolist())
