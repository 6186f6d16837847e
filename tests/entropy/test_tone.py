"""The tone map as bytes: what is written is read, and nothing else is believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcodec_jax.entropy import ToneMap, decode_tone, encode_tone
from rcodec_jax.entropy.tone import SPACINGS_PX, STEPS, grid_shape
from rcodec_jax.errors import CorruptPayloadError, RcodecError


@given(
    st.sampled_from(SPACINGS_PX),
    st.sampled_from(STEPS),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
)
def test_written_is_read(spacing, step, size, largest, seed) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.integers(-largest, largest + 1, grid_shape(*size, spacing)).astype(np.int32)
    tone = decode_tone(encode_tone(ToneMap(spacing, step, grid)), *size)
    assert (tone.spacing_px, tone.step) == (spacing, step)
    np.testing.assert_array_equal(tone.grid, grid)


def test_one_offset_everywhere_takes_a_few_bytes() -> None:
    grid = np.full((6, 8, 3), 5, np.int32)
    assert len(encode_tone(ToneMap(64, 1, grid))) <= 10


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_or_a_map(data: bytes) -> None:
    try:
        tone = decode_tone(data, 100, 150)
    except CorruptPayloadError:
        return
    assert encode_tone(tone) == data


@pytest.mark.parametrize(
    "spacing,step,grid",
    [
        (48, 1, np.zeros((1, 1, 3), np.int32)),
        (32, 3, np.zeros((1, 1, 3), np.int32)),
        (32, 1, np.zeros((1, 1, 3), np.int64)),
        (32, 1, np.zeros((1, 3), np.int32)),
        (32, 1, np.full((1, 1, 3), 256, np.int32)),
    ],
)
def test_no_other_maps(spacing, step, grid) -> None:
    with pytest.raises(RcodecError, match="tone map"):
        ToneMap(spacing, step, grid)
