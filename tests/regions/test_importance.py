"""Importance sources: boxes, gaze, masks, saliency."""

import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.regions.importance import combine, from_boxes, from_gaze


def test_boxes_are_half_open_and_add_up():
    importance = from_boxes([(1, 0, 3, 2), (4, 3, 6, 4)], 4, 6)
    expected = np.zeros((4, 6))
    expected[0:2, 1:3] = 1
    expected[3:4, 4:6] = 1
    np.testing.assert_array_equal(importance, expected)
    assert importance.dtype == np.float32


def test_boxes_are_rounded_outwards_and_cut_at_the_edge():
    importance = from_boxes([(-3.5, 1.9, 1.1, 99)], 4, 6)
    expected = np.zeros((4, 6))
    expected[1:4, 0:2] = 1
    np.testing.assert_array_equal(importance, expected)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((3, 0, 3, 2), "x0 < x1.*got 3,0,3,2"),
        ((0, 5, 3, 2), "y0 < y1.*got 0,5,3,2"),
        ((0, 0, float("nan"), 2), "got 0,0,nan,2"),
        ((0, 0, float("inf"), 2), "got 0,0,inf,2"),
        ((6, 0, 9, 2), "inside the 6x4 image, got 6,0,9,2"),
        ((-3, 0, 0, 2), "inside the 6x4 image"),
        ((0, 0, 2), "x0,y0,x1,y1, got '0,0,2'"),
    ],
)
def test_bad_boxes_name_expected_and_given(box, words):
    with pytest.raises(UsageError, match=words):
        from_boxes([box], 4, 6)
    with pytest.raises(UsageError, match="got none"):
        from_boxes([], 4, 6)


def test_gaze_is_one_at_the_point_and_falls_with_distance():
    importance = from_gaze(30, 20, 60, 100)
    assert importance.shape == (60, 100) and importance.dtype == np.float32
    assert importance[20, 30] == 1 and importance.min() > 0
    rows, columns = np.mgrid[:60, :100]
    distance = np.hypot(rows - 20, columns - 30)
    order = np.argsort(distance.ravel(), kind="stable")
    assert (np.diff(importance.ravel()[order]) <= 1e-7).all()
    np.testing.assert_allclose(importance[20, 30:50], importance[20:40, 30])


def test_gaze_is_half_at_the_eccentricity_of_half_resolution():
    # 300 px for 30 degrees: a tenth of a degree each; the fovea ends at 1.5, and 3.8 - 1.5 = 2.3.
    importance = from_gaze(150, 5, 10, 300)
    assert importance[5, 150 + 38] == pytest.approx(0.5, abs=1e-5)
    assert (importance[5, 150 - 15 : 150 + 16] == 1).all()


def test_bad_gaze():
    for x, y in [(-1, 0), (100, 0), (0, 60), (float("nan"), 0)]:
        with pytest.raises(UsageError, match="inside the 100x60 image"):
            from_gaze(x, y, 60, 100)


def test_combination_is_the_maximum():
    first, second = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(combine(first, second), np.maximum(first, second))
    np.testing.assert_array_equal(combine(first), first)
    with pytest.raises(UsageError, match="one shape"):
        combine(first, second[:2])
    with pytest.raises(UsageError, match="got none"):
        combine()
