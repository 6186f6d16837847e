"""Region figures look only at the region, and agree with the plain ones on full masks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import fidelity, perceptual, regional


def random_lpips() -> perceptual.Lpips:
    rng = np.random.default_rng(0)
    arrays = {
        name: np.abs(rng.normal(0, 0.1, shape))
        if name.startswith("lin")
        else rng.normal(0, 0.05, shape)
        for name, shape in perceptual.expected_shapes("alex").items()
    }
    return perceptual.Lpips.from_arrays(arrays, "alex")


def pair(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.2, 0.8, (1, side, side, 3)).astype(np.float32)
    return x, (x + rng.normal(0, 0.05, x.shape)).astype(np.float32)


def box_mask(side: int = 64, start: int = 10, stop: int = 50) -> np.ndarray:
    mask = np.zeros((1, side, side), np.float32)
    mask[:, start:stop, start:stop] = 1
    return mask


def test_full_mask_gives_plain_psnr() -> None:
    a, b = pair(1)
    given = regional.roi_psnr(jnp.asarray(a), jnp.asarray(b), jnp.ones((1, 64, 64)))
    np.testing.assert_allclose(given, fidelity.psnr(jnp.asarray(a), jnp.asarray(b)), atol=1e-3)


def test_roi_psnr_follows_the_formula_and_ignores_the_background() -> None:
    a, b = pair(2)
    mask = np.random.default_rng(3).uniform(0, 1, (1, 64, 64)).astype(np.float32)
    mask[:, :, 40:] = 0
    repeated = np.repeat(mask[..., None], 3, axis=-1)
    expected = 10 * np.log10(1 / (np.sum(repeated * (a - b) ** 2) / np.sum(repeated)))
    for background in (0.0, 1.0):
        b[:, :, 40:] = background
        given = regional.roi_psnr(jnp.asarray(a), jnp.asarray(b), jnp.asarray(mask))
        np.testing.assert_allclose(given[0], expected, atol=1e-3)


def test_roi_lpips_limits() -> None:
    lpips = random_lpips()
    a, b = (jnp.asarray(2 * x - 1) for x in pair(4))
    full, mask = jnp.ones((1, 64, 64)), jnp.asarray(box_mask())
    np.testing.assert_allclose(
        regional.roi_lpips_composite(lpips, a, b, full), lpips(a, b), rtol=1e-5
    )
    np.testing.assert_allclose(
        regional.roi_lpips_spatial(lpips, a, b, full), lpips.spatial(a, b).mean((1, 2)), rtol=1e-5
    )
    # Damage outside the mask leaves the composite untouched.
    outside = jnp.where(mask[..., None] > 0, a, b)
    assert float(regional.roi_lpips_composite(lpips, a, outside, mask)[0]) == 0
    assert float(regional.roi_lpips_composite(lpips, a, b, mask)[0]) > 0


def test_band_ratio_is_one_for_even_errors_and_sees_a_seam() -> None:
    a, mask = np.zeros((64, 64, 3)), box_mask()[0]
    assert regional.band_errors(a, a + 0.1, mask, band_px=4).ratio == pytest.approx(1)
    seam = a + 0.1
    seam[10:14, 10:50] += 0.1  # the top four rows of the box err twice as much
    errors = regional.band_errors(a, seam, mask, band_px=4)
    assert errors.interior_px == 32 * 32 and errors.band_px == 40 * 40 - 32 * 32
    seam_px = 4 * 40
    expected = (seam_px * 0.04 + (errors.band_px - seam_px) * 0.01) / errors.band_px / 0.01
    assert errors.ratio == pytest.approx(expected)


def test_the_picture_edge_is_no_border_and_the_background_never_counts() -> None:
    mask = np.zeros((40, 40))
    mask[:, :20] = 1  # touches three picture edges
    a = np.zeros((40, 40, 3))
    b = np.where(mask[..., None] > 0, 0.0, 1.0) * np.ones(3)
    errors = regional.band_errors(a, b, mask, band_px=5)
    assert errors == (0.0, 40 * 5, 0.0, 40 * 15)
    assert errors.ratio == 1


def test_no_interior_or_no_border_is_nan() -> None:
    a = np.zeros((40, 40, 3))
    assert np.isnan(regional.band_errors(a, a, np.ones((40, 40))).ratio)
    assert np.isnan(regional.band_errors(a, a, box_mask(40, 18, 22)[0]).ratio)


def test_bad_shapes_are_named() -> None:
    a, b = (jnp.asarray(x) for x in pair(5))
    with pytest.raises(UsageError, match="a mask"):
        regional.roi_psnr(a, b, jnp.ones((1, 64, 63)))
    with pytest.raises(UsageError, match="one size"):
        regional.band_errors(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.zeros((4, 5)))


def test_pictures_and_masks_of_other_shapes_are_refused() -> None:
    mask = jnp.ones((2, 4, 4))
    with pytest.raises(UsageError, match="one shape"):
        regional.roi_psnr(jnp.ones((2, 4, 4, 3)), jnp.ones((1, 1, 1, 1)), mask)
    with pytest.raises(UsageError, match=r"a mask \[2, 4, 4\], got \[1, 4, 4\]"):
        regional.roi_psnr(jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4, 3)), mask[:1])
