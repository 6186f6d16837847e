"""Bytes of pictures to what networks see, and back."""

import jax.numpy as jnp
import numpy as np

from rcodec_jax.ops.pixels import to_bytes, to_signed


def test_every_byte_comes_back_from_minus_one_to_one() -> None:
    image = jnp.arange(256, dtype=jnp.uint8)
    signed = to_signed(image)
    assert (float(signed[0]), float(signed[-1])) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_bytes(signed), image)


def test_what_is_out_of_range_is_clipped() -> None:
    np.testing.assert_array_equal(to_bytes(jnp.asarray([-1e9, -1.1, 1.1, 1e9])), [0, 0, 255, 255])
