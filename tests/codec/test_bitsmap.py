"""Bits by cell: of a file as of what the encoder counted."""

from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec.bitsmap import bits_of, cell_bits

NANO = Path(__file__).parents[1] / "golden" / "nano"


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 7), (13, 9)])
def test_cell_bits_keep_their_sum(shape):
    rng = np.random.default_rng(0)
    stride = 4
    hyper = tuple(-(-side // stride) for side in shape)
    bits_z, bits_y = rng.random((*hyper, 3)), rng.random((*shape, 2))
    cells = cell_bits(bits_z, bits_y, stride)
    assert cells.shape == shape
    np.testing.assert_allclose(cells.sum(), bits_z.sum() + bits_y.sum())
    # Each hyper-latent's bits stay over the cells it covers.
    np.testing.assert_allclose(
        cells[:stride, :stride].sum(), bits_y[:stride, :stride].sum() + bits_z[0, 0].sum()
    )


def test_a_file_tells_what_the_encoder_counted(codec, photos) -> None:
    encoded = codec.encode_detailed(photos["face"], quality=40)
    read = bits_of(read_container(encoded.data), NANO)
    np.testing.assert_array_equal(read.cells, encoded.cell_bits)
    assert read.hyper + read.latent == pytest.approx(encoded.cell_bits.sum())
