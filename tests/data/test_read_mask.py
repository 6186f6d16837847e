"""Masks: grey values, binary masks, labels."""

import io

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.data.images import read_mask
from rcodec_jax.errors import UsageError


def png(image):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


LABELS = np.array([[0, 1, 2], [0, 5, 5]], np.uint8)


def test_grey_values_are_divided_by_the_range():
    mask = read_mask(png(np.array([[0, 51, 255]], np.uint8)), (1, 3))
    np.testing.assert_allclose(mask, [[0, 0.2, 1]], rtol=1e-6)
    assert mask.dtype == np.float32
    wide = read_mask(png(np.array([[0, 13107, 65535]], np.uint16)), (1, 3))
    np.testing.assert_allclose(wide, [[0, 0.2, 1]], rtol=1e-6)


def test_a_maximum_of_one_means_binary():
    binary = np.array([[0, 1], [1, 0]], np.uint8)
    for image in (binary, binary.astype(np.uint16), Image.fromarray(binary > 0)):
        np.testing.assert_array_equal(read_mask(png(image), (2, 2)), binary)
    np.testing.assert_array_equal(read_mask(png(binary * 0), (2, 2)), binary * 0)


def test_colour_masks_count_by_their_grey():
    white_box = np.zeros((4, 4, 3), np.uint8)
    white_box[1:3, 1:3] = 255
    np.testing.assert_array_equal(read_mask(png(white_box), (4, 4)), white_box[..., 0] / 255)


@pytest.mark.parametrize("kind", ["grey", "palette", "wide"])
def test_labels(kind):
    image = Image.fromarray(LABELS)
    if kind == "palette":
        image = image.convert("P")
        image.putpalette([value for i in range(256) for value in (255 - i, i, 0)])
    elif kind == "wide":
        image = Image.fromarray(LABELS.astype(np.uint16))
    for label in (0, 2, 5):
        mask = read_mask(png(image), (2, 3), label)
        np.testing.assert_array_equal(mask, np.equal(LABELS, label).astype(np.float32))


def test_errors_name_expected_and_given(tmp_path):
    with pytest.raises(UsageError, match="expected a mask of 4x2 pixels like the image, got 3x2"):
        read_mask(png(LABELS), (2, 4))
    with pytest.raises(UsageError, match="expected a label out of 0 1 2 5, got 3"):
        read_mask(png(LABELS), (2, 3), 3)
    with pytest.raises(UsageError, match="no such file"):
        read_mask(tmp_path / "absent.png", (2, 3))
    with pytest.raises(UsageError, match="damaged PNG"):
        read_mask(
            png(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))[:900], (64, 64)
        )
