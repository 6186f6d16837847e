"""PSNR and MS-SSIM against scikit-image and against the published formula on SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import fidelity

_ms_ssim = jax.jit(fidelity.ms_ssim)


def scene(seed: int, height: int = 180, width: int = 193) -> np.ndarray:
    """A smooth random picture with some texture, float32 [H, W, 3] in 0..1."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (6, 6, 0))
    fine = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (1, 1, 0))
    x = 8 * smooth + 0.3 * fine
    return ((x - x.min()) / (x.max() - x.min())).astype(np.float32)


def damaged(x: np.ndarray, seed: int, amount: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=x.shape)
    blurred = ndimage.gaussian_filter(x, (1.2, 1.2, 0))
    return np.clip(blurred + amount * noise, 0, 1).astype(np.float32)


def batch(*pictures: np.ndarray) -> jax.Array:
    return jnp.asarray(np.stack(pictures))


def reference_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2003 in float64, channel by channel, with SciPy filters."""
    offsets = np.arange(-5, 6)
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(kernel, kernel) / kernel.sum() ** 2

    def blur(x: np.ndarray) -> np.ndarray:
        return ndimage.correlate(x, window)[5:-5, 5:-5]

    values = []
    for channel in range(3):
        x, y = a[..., channel].astype(np.float64), b[..., channel].astype(np.float64)
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = blur(x), blur(y)
            cs = (2 * (blur(x * y) - mx * my) + 9e-4) / (
                blur(x * x) - mx**2 + blur(y * y) - my**2 + 9e-4
            )
            luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            value *= (np.mean(luminance * cs) if scale == 4 else np.mean(cs)) ** weight
            height, width = (-(-side // 2) * 2 for side in x.shape)
            x, y = (
                np.pad(v, ((0, height - v.shape[0]), (0, width - v.shape[1])), mode="edge")
                for v in (x, y)
            )
            x, y = (v.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for v in (x, y))
        values.append(value)
    return float(np.mean(values))


def test_psnr_agrees_with_scikit_image_per_picture() -> None:
    a, b = scene(0), scene(1)
    damaged_a, damaged_b = damaged(a, 2, 0.05), damaged(b, 3, 0.01)
    expected = [
        peak_signal_noise_ratio(x, y, data_range=1) for x, y in ((a, damaged_a), (b, damaged_b))
    ]
    given = fidelity.psnr(batch(a, b), batch(damaged_a, damaged_b))
    np.testing.assert_allclose(given, expected, atol=1e-3)


def test_psnr_of_equal_pictures_is_infinite_and_of_a_known_error_exact() -> None:
    x = jnp.full((1, 8, 8, 3), 0.5)
    assert fidelity.psnr(x, x)[0] == np.inf
    np.testing.assert_allclose(fidelity.psnr(x, x + 0.1), 20.0, atol=1e-4)


def test_ms_ssim_agrees_with_the_published_formula() -> None:
    """Odd and even sides; pairs from nearly equal to heavily damaged."""
    a = scene(6)
    pairs = [damaged(a, 7, amount) for amount in (0.005, 0.03, 0.15)]
    given = _ms_ssim(batch(a, a, a), batch(*pairs))
    np.testing.assert_allclose(given, [reference_ms_ssim(a, b) for b in pairs], atol=5e-5)
    assert list(given) == sorted(given, reverse=True)


def test_ms_ssim_limits() -> None:
    a = batch(scene(8))
    np.testing.assert_allclose(_ms_ssim(a, a), 1, atol=1e-5)
    assert 0 <= float(_ms_ssim(a, 1 - a)[0]) < 0.1  # anti-correlated: defined, near zero
    a = a[:, :161, :161]
    gradient = jax.jit(jax.grad(lambda x: fidelity.ms_ssim(x, a).sum()))
    for x in (a, 1 - a, jnp.zeros_like(a), 1e3 * a):
        assert np.isfinite(gradient(x)).all()


def test_small_and_unequal_pictures_are_refused() -> None:
    small = batch(scene(9, 160, 200))
    with pytest.raises(UsageError, match="at least 161 px, got 160x200"):
        fidelity.ms_ssim(small, small)
    with pytest.raises(UsageError, match="one shape"):
        fidelity.psnr(small, small[:, 1:])
