"""FORMAT.md describes a model with every kind of layer: the second decoder reads its files."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.bitstream import Header, write_container
from rcodec_jax.entropy import (
    IntegerPart,
    LevelContext,
    decode_level_map,
    encode_level_map,
    encode_symbols,
)

REFERENCE = Path(__file__).parents[1] / "bitstream"


@pytest.fixture(scope="module", autouse=True)
def _second_decoder_can_be_imported():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REFERENCE))
        yield


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_a_decoder_written_from_the_page_reads_the_same(part: IntegerPart, levels: int) -> None:
    rng = np.random.default_rng(levels)
    level_map = rng.integers(0, levels, (4, 5)).astype(np.uint8).repeat(2, 0).repeat(2, 1)[:7, :9]
    n_hi = 800 if levels > 1 else 120
    header = Header(51, 70, 120, n_hi, levels, part.digest, b"\0\0\0\0")
    if levels == 2:  # the same cells
        header = dataclasses.replace(header, height_px=101, width_px=139, resampling=2)
    z = rng.integers(-6, 7, (2, 3, 2))  # the tables end at +-4: some are escapes
    j = np.rint(rng.normal(size=(7, 9, 3)) * 3).astype(np.int32)
    data = write_container(
        header,
        encode_level_map(level_map, levels),
        encode_symbols(part, z, j, LevelContext(header.nodes, level_map)),
    )
    own = importlib.import_module("reference_network").read_part(part.to_bytes())
    decoded = importlib.import_module("reference_decoder").decode(data, own)
    assert decoded.node_map == header.nodes[level_map].tolist()
    assert decoded.payload.z == z.reshape(-1).tolist()
    assert decoded.payload.j == j.reshape(-1).tolist()
    prior = part.predict(z, LevelContext(header.nodes, level_map))
    assert decoded.payload.mean == prior.mean.reshape(-1).tolist()
    assert decoded.payload.log2_sigma == prior.log2_sigma.reshape(-1).tolist()


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_the_page_describes_the_level_map(levels: int) -> None:
    stream = importlib.import_module("reference_stream")
    rng = np.random.default_rng(levels)
    y, x = np.mgrid[:20, :30]
    rings = np.minimum(np.hypot(y - 8, x - 12) / 3, levels - 1).astype(np.uint8)
    noise = rng.integers(0, levels, (20, 30)).astype(np.uint8)
    for level_map in (rings, noise):
        data = encode_level_map(level_map, levels)
        assert stream.decode_level_map(data, 20, 30, levels) == level_map.tolist()
        assert np.array_equal(decode_level_map(data, 20, 30, levels), level_map)
