"""Made pictures and grey crops."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from rcodec_jax.data import make_dataset, open_source
from rcodec_jax.data.loading.transforms import to_grey
from rcodec_jax.data.sources.made import (
    KIND_NAMES,
    KINDS,
    MadePictures,
    made_picture,
    made_pictures,
)
from rcodec_jax.errors import UsageError

SIDE = 48


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    return made_pictures(64, SIDE, seed=3)


def test_pictures_follow_from_seed_and_index(drawn) -> None:
    for index, pixels in enumerate(drawn[:16]):
        assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, made_picture(index, SIDE, 3))
    others = made_pictures(16, SIDE, seed=4)
    assert sum(np.array_equal(a, b) for a, b in zip(drawn, others, strict=False)) <= 2
    assert len({pixels.tobytes() for pixels in drawn}) > 60


def test_all_kinds_are_there_and_are_what_they_are_called(drawn) -> None:
    assert set(KIND_NAMES) == set(KINDS)
    kinds = {name: drawn[KIND_NAMES.index(name) :: len(KIND_NAMES)] for name in KINDS}
    assert all((pixels == pixels[0, 0]).all() for pixels in kinds["flat"])
    assert all(len(np.unique(pixels)) > 3 for pixels in kinds["gradient"] if np.ptp(pixels) > 9)
    for pixels in kinds["text"]:  # edges as strong as ink on paper
        assert np.abs(np.diff(pixels.astype(int).sum(2), axis=1)).max() > 100
    deviation = [float(pixels.std(axis=(0, 1)).max()) for pixels in kinds["grain"]]
    assert max(deviation) < 4


def test_saturated_and_grey_colours_are_there(drawn) -> None:
    corners = np.array([pixels[0, 0] for pixels in drawn]).astype(int)
    saturation = np.ptp(corners, axis=1)
    assert (saturation == 0).mean() > 0.15 and (saturation > 200).mean() > 0.1
    assert corners.min() < 10 and corners.max() > 245


def test_made_pictures_are_a_source_by_name() -> None:
    source = open_source("made:9", min_side=16)
    assert source.picture_count == 9 and source.kind == "images"
    np.testing.assert_array_equal(source[2], made_picture(2, 288, 0))
    assert source.digest != open_source("made").digest == MadePictures().digest
    assert pickle.loads(pickle.dumps(source)).digest == source.digest
    with pytest.raises(UsageError, match="at least 1 made picture"):
        MadePictures(0)


def test_grey_crops_have_the_luma_and_change_nothing_else() -> None:
    source = MadePictures(24, size=40)

    def rows(grey: float) -> list[np.ndarray]:
        batches = make_dataset(source, crop_px=32, batch_size=24, seed=1, grey=grey)
        image = next(batches)["image"]
        batches.close()
        return [*image]

    plain, some, every = rows(0.0), rows(0.5), rows(1.0)
    for a, b, c in zip(plain, some, every, strict=True):
        assert np.array_equal(b, a) or np.array_equal(b, c)
        np.testing.assert_array_equal(c, to_grey(a))
    share = np.mean([np.array_equal(b, c) for b, c in zip(some, every, strict=True)])
    assert 0.3 < share < 0.95
    assert to_grey(np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8)).tolist() == [
        [[255] * 3, [76] * 3]
    ]
    with pytest.raises(UsageError, match="grey"):
        rows(1.5)
