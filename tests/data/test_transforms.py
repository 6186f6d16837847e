"""Random crops: every place, both sides, any size."""

import numpy as np
import pytest

from rcodec_jax.data.loading.transforms import random_crop


def test_random_crop_reaches_every_place_and_both_sides():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:12, :10]
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    corners, mirrored = set(), 0
    for _ in range(600):
        crop = random_crop(image, 8, rng=rng)
        assert crop.shape == (8, 8, 3)
        left = crop[0, :, 1].min()
        corners.add((int(crop[0, 0, 0]), int(left)))
        mirrored += bool(crop[0, 0, 1] > crop[0, 1, 1])
    assert corners == {(top, left) for top in range(5) for left in range(3)}
    assert 230 < mirrored < 370  # half of 600, five standard deviations


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (7, 16), (40, 2)])
def test_small_pictures_are_mirrored_up_to_the_crop(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    crop = random_crop(image, 16, rng=rng)
    assert crop.shape == (16, 16, 3)
    assert {tuple(p) for p in crop.reshape(-1, 3)} <= {tuple(p) for p in image.reshape(-1, 3)}
