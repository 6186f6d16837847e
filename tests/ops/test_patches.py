"""The transform of the patchified stem: orthonormal, invertible, and scaled for photographs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.ops.patches import from_patches, patch_basis, to_patches


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_rows_are_orthonormal_and_the_inverse_exact(patch: int) -> None:
    basis, sizes = patch_basis(patch)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3 * patch * patch), atol=1e-5)
    assert np.all(sizes > 0)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(-1, 1, (2, 3 * patch, 2 * patch, 3)), jnp.float32)
    coefficients = to_patches(image, patch)
    assert coefficients.shape == (2, 3, 2, 3 * patch * patch)
    np.testing.assert_allclose(
        np.asarray(from_patches(coefficients, patch)), np.asarray(image), atol=2e-5
    )


@pytest.mark.parametrize("patch", [4, 8])
def test_a_flat_patch_has_colour_only(patch: int) -> None:
    image = np.zeros((1, patch, 2 * patch, 3), np.float32)
    image[:, :, :patch] = 0.5  # grey
    image[:, :, patch:] = [0.5, 0.0, -0.5]  # orange
    grey, orange = np.asarray(to_patches(jnp.asarray(image), patch))[0, 0]
    assert np.flatnonzero(np.abs(grey) > 1e-5).tolist() == [0]
    assert np.flatnonzero(np.abs(orange) > 1e-5).tolist() == [1]


def test_coefficients_of_a_photo_are_of_one_size() -> None:
    """Within a factor of a few of unit deviation, where pixels differ a hundredfold."""
    from skimage.data import astronaut

    image = jnp.asarray(astronaut()[None] / 127.5 - 1.0, jnp.float32)
    deviation = np.asarray(to_patches(image, 4)).std((0, 1, 2))
    assert deviation.min() > 0.05 and deviation.max() < 5
