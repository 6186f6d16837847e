"""The second decoder reads payloads of large pictures, which are coded in lanes."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.bitstream import Header, write_container
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.entropy import (
    Conv,
    DepthToSpace,
    GaussianTables,
    IntegerNetwork,
    IntegerPart,
    StaticTables,
    encode_level_map,
    encode_symbols,
)


@pytest.fixture(scope="module", autouse=True)
def _beside_this_file():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def wide_part(channels: int) -> IntegerPart:
    """Many latent channels over a network that costs next to nothing."""

    def conv(cin: int, cout: int) -> Conv:
        weight = np.arange(cin * cout, dtype=np.int16).reshape(1, 1, cin, cout) % 211 - 100
        return Conv(weight, np.arange(cout, dtype=np.int64) * 37 % 4001 * 16 - 32000, 3)

    return IntegerPart(
        latent_channels=channels,
        hyper_channels=1,
        hyper_stride=4,
        node_log2_s=np.round(np.linspace(3, -9, 1024) * 2048).astype(np.int32),
        node_class=np.zeros(1024, np.uint8),
        gaussian=GaussianTables.build(),
        hyper_tables=StaticTables.build([[(-1, np.array([0.25, 0.5, 0.25]))]]),
        network=IntegerNetwork([conv(1, 16), DepthToSpace(4), conv(1, 2 * channels)]),
    )


def test_it_reads_a_large_payload() -> None:
    """300,000 values and more may be coded in lanes."""
    second = importlib.import_module("reference_decoder")
    channels, h, w = 400, 30, 26
    made = wide_part(channels)
    rng = np.random.default_rng(5)
    level_map = np.zeros((h, w), np.uint8)
    level_map[8:20, 5:16] = 1
    header = Header(8 * h, 8 * w, 300, 700, 2, made.digest, bytes(4))
    z = rng.integers(-2, 3, (8, 7, 1))
    prior = made.predict(z, header.nodes, level_map)
    spread = made.sigma_index(prior, header.nodes, level_map)
    sigma = 0.01 * 6400.0 ** (spread / 63)
    j = np.rint(rng.laplace(size=(h, w, channels)) * sigma).astype(np.int64)
    j = np.clip(j, -32767, 32767)
    payload = encode_symbols(made, z, j, header.nodes, level_map)
    data = write_container(header, encode_level_map(level_map, 2), payload)
    _, _, symbols = read_symbols(data, made)
    np.testing.assert_array_equal(symbols.j, j)

    network = importlib.import_module("reference_network")
    decoded = second.decode(data, network.read_part(made.to_bytes()))
    assert decoded.payload.z == z.reshape(-1).tolist()
    assert decoded.payload.j == j.reshape(-1).tolist()
    assert decoded.payload.log2_sigma == prior.log2_sigma.reshape(-1).tolist()
