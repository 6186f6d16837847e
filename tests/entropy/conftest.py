"""A small integer part with every kind of layer, shared by the tests of the entropy package."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.entropy import (
    Conv,
    DepthToSpace,
    Film,
    GaussianTables,
    IntegerNetwork,
    IntegerPart,
    LeakyRelu,
    StaticTables,
)


def make_part(gaussian: GaussianTables, seed: int = 5) -> IntegerPart:
    """3 latent and 2 hyper channels, stride 4, 4 classes; priors from sharp to wide."""
    rng = np.random.default_rng(seed)

    def conv(side: int, cin: int, cout: int, shift: int, reach: int = 3000) -> Conv:
        weight = rng.integers(-reach, reach + 1, (side, side, cin, cout)).astype(np.int16)
        return Conv(weight, rng.integers(-5000, 5000, cout).astype(np.int64), shift)

    def film(channels: int, stride: int) -> Film:
        gain = rng.integers(2048, 8192, (1024, channels))
        offset = rng.integers(-3000, 3000, (1024, channels))
        return Film(np.concatenate([gain, offset], 1).astype(np.int16), 12, stride)

    layers = [
        conv(3, 2, 5, 2),
        film(5, 4),
        LeakyRelu(),
        conv(3, 5, 16, 14),
        DepthToSpace(),
        film(4, 2),
        LeakyRelu(2),
        conv(1, 4, 16, 12),
        DepthToSpace(),
        film(4, 1),
        conv(5, 4, 6, 14),
    ]
    value = np.arange(-4, 5)
    pmfs = []
    for channel in range(2):
        row = []
        for table_class in range(4):
            p = np.exp(-np.abs(value) * (0.5 + 0.5 * table_class + channel))
            row.append((-4, p / p.sum() * 0.999))
        pmfs.append(row)
    return IntegerPart(
        latent_channels=3,
        hyper_channels=2,
        hyper_stride=4,
        node_log2_s=np.round(np.linspace(3, -9, 1024) * 2048).astype(np.int32),
        node_class=(np.arange(1024) // 256).astype(np.uint8),
        gaussian=gaussian,
        hyper_tables=StaticTables.build(pmfs),
        network=IntegerNetwork(layers),
    )


@pytest.fixture(scope="session")
def gaussian() -> GaussianTables:
    return GaussianTables.build()


@pytest.fixture(scope="session")
def part(gaussian: GaussianTables) -> IntegerPart:
    return make_part(gaussian)
