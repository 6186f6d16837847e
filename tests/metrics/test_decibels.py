"""PSNR of bytes in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rcodec_jax.metrics.decibels import psnr_db


def test_psnr_of_known_errors_where_they_count() -> None:
    original = np.full((4, 6, 3), 200, np.uint8)
    decoded = original.copy()
    decoded[:, :3] = 201  # bytes do not wrap around
    decoded[:, 3:] = 190
    left = np.arange(6)[None].repeat(4, 0) < 3
    one, ten = 20 * np.log10(255), 20 * np.log10(25.5)
    assert psnr_db(original, decoded, left) == pytest.approx(one)
    assert psnr_db(original, decoded, 0.3 * ~left) == pytest.approx(ten)
    assert psnr_db(original, decoded) == pytest.approx(10 * np.log10(255**2 / 50.5))
    assert psnr_db(decoded, original) == psnr_db(original, decoded)
    assert psnr_db(original, original) == pytest.approx(78.13, abs=0.01)
