"""Masks: grey values, binary masks, labels."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rcodec_jax.data import read_mask
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


OBJECT = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)


def read_with_notes(data, shape=(2, 3)):
    notes = []
    return read_mask(data, shape, notes=notes), notes


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colour", [0, 90, 255])
def test_a_mask_in_alpha_is_found_where_colour_says_nothing(mode, colour):
    image = Image.new(mode[:-1], (3, 2), (colour,) * 3 if mode == "RGBA" else colour)
    image.putalpha(Image.fromarray(OBJECT * 255))
    mask, notes = read_with_notes(png(image))
    np.testing.assert_array_equal(mask, OBJECT)
    assert notes == ["mask: the colour is the same all over, so alpha is the mask"]


def test_colour_counts_where_alpha_says_nothing():
    image = Image.fromarray(OBJECT * 255)
    image.putalpha(200)
    mask, notes = read_with_notes(png(image))
    np.testing.assert_array_equal(mask, OBJECT)
    assert notes == []


def test_transparent_pixels_do_not_matter():
    image = Image.fromarray(np.array([[255, 255, 0], [51, 0, 255]], np.uint8))
    image.putalpha(Image.fromarray(np.array([[0, 255, 255], [255, 0, 255]], np.uint8)))
    mask, notes = read_with_notes(png(image))
    np.testing.assert_allclose(mask, [[0, 1, 0], [0.2, 0, 1]], rtol=1e-6)
    assert notes == ["mask: transparent pixels do not matter"]


@pytest.mark.parametrize(
    "values, listed",
    [(OBJECT * 2, "0 2"), (OBJECT.astype(np.uint16) * 1000, "0 1000"), (LABELS, "0 1 2 5"),
     (LABELS.astype(np.uint16) * 1001, "0 1001 2002 5005"), (LABELS.astype(np.int32), "0 1 2 5")],
)  # fmt: skip
def test_what_looks_like_labels_is_taken_so_and_said(values, listed):
    format = "TIFF" if values.dtype == np.int32 else "PNG"
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format)
    mask, notes = read_with_notes(buffer.getvalue())
    np.testing.assert_array_equal(mask, values > 0)
    assert notes == [
        f"mask: the values {listed} were taken as labels, all but 0 are important "
        "(--roi-id K picks one)"
    ]


def test_borders_marked_with_the_largest_value_do_not_hide_objects():
    values = np.array([[0, 0, 255], [15, 15, 15]], np.uint8)
    np.testing.assert_array_equal(read_mask(png(values), (2, 3)), values > 0)
    # The other way round they are dirt beside a mask.
    values = np.array([[0, 0, 2], [255, 255, 255]], np.uint8)
    np.testing.assert_allclose(read_mask(png(values), (2, 3)), values / 255, rtol=1e-6)


def test_soft_masks_stay_soft():
    values = np.linspace(0, 200, 50).astype(np.uint8)[None]
    mask, notes = read_with_notes(png(values), (1, 50))
    np.testing.assert_allclose(mask, values / 255, rtol=1e-6)
    assert notes == []


@pytest.mark.parametrize("palette", ["colours", "black", "shades"])
def test_palette_masks(palette):
    image = Image.fromarray(OBJECT * 3).convert("P")
    colours = {"colours": (128, 0, 0), "black": (0, 0, 0), "shades": (255, 255, 255)}[palette]
    image.putpalette([0, 0, 0] * 3 + list(colours))
    mask, notes = read_with_notes(png(image))
    np.testing.assert_array_equal(mask, OBJECT)
    assert ("the values 0 3 were taken as labels" in " ".join(notes)) == (palette != "shades")


@pytest.mark.parametrize(
    "image",
    [Image.new("L", (3, 2)), Image.new("1", (3, 2)), Image.new("P", (3, 2)),
     Image.new("RGB", (3, 2)), Image.new("RGBA", (3, 2)), Image.new("I;16", (3, 2))],
    ids=lambda image: image.mode,
)  # fmt: skip
def test_masks_without_an_important_pixel_are_refused(image):
    with pytest.raises(UsageError, match=r"important pixels \(values above 0\), got the values 0$"):
        read_mask(png(image), (2, 3))


@pytest.mark.parametrize("value", [1, 3, 128, 255])
def test_masks_that_favour_nothing_say_so(value):
    mask, notes = read_with_notes(png(np.full((2, 3), value, np.uint8)))
    assert (mask == mask[0, 0]).all() and mask[0, 0] > 0
    assert notes == [f"mask: every pixel matters alike (values {value})"]


def test_a_mask_is_turned_as_the_photo_is():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(OBJECT * 255))).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(read_mask(buffer.getvalue(), (2, 3)), OBJECT)
    np.testing.assert_array_equal(read_mask(buffer.getvalue(), (2, 3), roi_id=0), 1 - OBJECT)


def test_errors_name_expected_and_given(tmp_path):
    with pytest.raises(UsageError, match="expected a mask of 4x2 pixels like the image, got 3x2"):
        read_mask(png(LABELS), (2, 4))
    with pytest.raises(UsageError, match="expected a label out of 0 1 2 5, got 3"):
        read_mask(png(LABELS), (2, 3), 3)
    with pytest.raises(UsageError, match="no such file"):
        read_mask(tmp_path / "absent.png", (2, 3))


def test_a_cut_mask_is_read_as_far_as_it_goes_where_that_is_allowed():
    """A mask is no less at risk than its photo: same refusal, same way in, and a note."""
    values = np.random.default_rng(0).integers(100, 256, (64, 64), np.uint8)
    cut = png(values)[:900]
    with pytest.raises(UsageError, match="damaged PNG.*--allow-truncated"):
        read_mask(cut, (64, 64))
    notes: list[str] = []
    mask = read_mask(cut, (64, 64), notes=notes, allow_truncated=True)
    np.testing.assert_array_equal(mask[:10], values[:10] / np.float32(255))
    assert not mask[-10:].any()
    assert len(notes) == 1 and notes[0].startswith("mask: damaged PNG")


def test_a_mask_whose_pixels_fail_their_check_is_refused():
    data = bytearray(png(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)))
    data[data.index(b"IEND") - 5] ^= 1  # the checksum of the pixels
    with pytest.raises(UsageError, match="damaged PNG") as caught:
        read_mask(bytes(data), (64, 64))
    assert str(caught.value).count("damaged") == 1


def test_a_mask_whose_transparency_is_damaged_is_refused():
    """Without it bright would matter instead of what is not transparent."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    image.putpixel((1, 1), (0, 0, 0))
    image.save(buffer, "PNG", transparency=(200, 200, 200))
    data = bytearray(buffer.getvalue())
    data[data.index(b"tRNS") + 5] ^= 1
    with pytest.raises(UsageError, match="damaged PNG: wrong checksum of tRNS"):
        read_mask(bytes(data), (8, 8))
    assert read_mask(bytes(data), (8, 8), allow_truncated=True).shape == (8, 8)


def test_other_damaged_chunks_of_a_mask_are_said_to_be_left_out():
    buffer = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "words")
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(values).save(buffer, "PNG", pnginfo=text)
    data = bytearray(buffer.getvalue())
    data[data.index(b"words")] ^= 1
    mask, notes = read_with_notes(bytes(data), (8, 8))
    np.testing.assert_allclose(mask, values / 255, rtol=1e-6)
    assert notes == ["mask: damaged chunks of the PNG were left out: tEXt"]


def test_16_bits_that_hold_8_are_said_to_be_dim():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    mask, notes = read_with_notes(png(values), (16, 16))
    assert mask.max() == pytest.approx(255 / 65535)
    assert len(notes) == 1 and "a small part of the range 0..65535" in notes[0]


def test_a_mask_of_more_than_16_bits_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16) << 16).save(buffer, "TIFF")
    with pytest.raises(UsageError, match="a mask of 8 or 16 bits, got values up to 16711680"):
        read_mask(buffer.getvalue(), (16, 16))
