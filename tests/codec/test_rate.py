"""Rate: budgets are kept, the payload is as long as the tables say, bits go where they matter."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rcodec_jax.bitstream import read_container
from rcodec_jax.codec.decode import dequantise
from rcodec_jax.codec.symbols import read_symbols
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.errors import UsageError

KINDS = ["face", "cat", "slope", "noise"]


@pytest.fixture(scope="module")
def reach(codec, photos) -> dict[str, tuple[int, int]]:
    """Smallest and largest file of each picture."""
    sizes = {}
    for kind in KINDS:
        low, high = (
            len(codec.encode(photos[kind], quality=quality, effort=1)) for quality in (0, 100)
        )
        sizes[kind] = (low, high)
    return sizes


@pytest.mark.parametrize("kind", KINDS)
def test_budgets_are_met_and_never_exceeded(codec, photos, reach, kind: str) -> None:
    low, high = reach[kind]
    image = photos[kind]
    importance = np.zeros(image.shape[:2], np.float32)
    importance[64:136, 96:160] = 1.0
    targets = [low + 3, *np.geomspace(low + 20, high - 3, 4).astype(int).tolist(), high]
    for number, target in enumerate(targets):
        encoded = codec.encode_detailed(image, size_bytes=target, effort=1)
        assert len(encoded.data) <= target
        assert len(encoded.data) >= target - max(0.02 * target, 16)
        assert not encoded.notes
        if number in (2, 3):
            bpp = target * 8 / (200 * 300)
            assert codec.encode(image, bpp=bpp, effort=1) == encoded.data
            mapped = codec.encode_detailed(
                image, size_bytes=target, importance=importance, effort=1
            )
            assert target - max(0.02 * target, 16) <= len(mapped.data) <= target


def test_flat_pictures_meet_a_budget_or_say_why(codec) -> None:
    """Their sizes do not fall evenly with the base."""
    image = np.full((64, 64, 3), 128, np.uint8)
    low, high = (len(codec.encode(image, quality=q, effort=1)) for q in (0, 100))
    for target in np.linspace(min(low, high), 3 * max(low, high), 6).astype(int).tolist():
        encoded = codec.encode_detailed(image, size_bytes=target, effort=1)
        size = len(encoded.data)
        assert size <= target
        if size < target - max(0.02 * target, 16):
            (note,) = encoded.notes
            assert f"budget of {target} bytes" in note and f"{size} " in note
        else:
            assert not encoded.notes


def test_above_the_range_is_the_best_and_a_note(codec, photos, reach) -> None:
    high = reach["face"][1]
    encoded = codec.encode_detailed(photos["face"], size_bytes=3 * high, effort=1)
    best = codec.encode(photos["face"], quality=100, effort=1)
    assert encoded.data == best
    # with a region too: in the end nothing is left to prefer
    importance = np.zeros((200, 300), np.float32)
    importance[:100] = 1
    everywhere = codec.encode_detailed(
        photos["face"], size_bytes=3 * high, importance=importance, effort=1
    )
    assert everywhere.data == best and everywhere.notes == encoded.notes
    assert encoded.base_node == codec.bundle.config.node_range[0]
    (note,) = encoded.notes
    assert str(3 * high) in note and f"{high} bytes" in note and "best quality" in note


def test_below_the_range_is_an_error_that_names_it(codec, photos, reach) -> None:
    low, _ = reach["face"]
    with pytest.raises(UsageError) as error:
        codec.encode(photos["face"], size_bytes=low // 2, resampling=1)
    numbers = [int(word) for word in str(error.value).split() if word.isdigit()]
    assert any(abs(number - low) <= 4 for number in numbers), error.value
    assert f"got {low // 2} bytes" in str(error.value)


def test_budgets_of_tiny_pictures(codec, astronaut) -> None:
    image = np.ascontiguousarray(astronaut[100:137, 180:233])
    low, high = (len(codec.encode(image, quality=quality)) for quality in (0, 100))
    for target in range(low, high + 1, 35):
        size = len(codec.encode(image, size_bytes=target))
        assert target - 16 <= size <= target
    low, high = (len(codec.encode(image, quality=quality, effort=1)) for quality in (0, 100))
    for target in range(low, high + 1, 7):  # densely where nothing is refined, which takes longer
        size = len(codec.encode(image, size_bytes=target, effort=1))
        assert target - 16 <= size <= target


def test_quality_bpp_and_bytes_exclude_one_another(codec) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for options in ({"quality": 50, "bpp": 1.0}, {"bpp": 1.0, "size_bytes": 99},
                    {"quality": 1, "size_bytes": 99}):  # fmt: skip
        with pytest.raises(UsageError, match="expected one of quality, bpp and size_bytes, got"):
            codec.encode(image, **options)
    for options in ({"bpp": 0.0}, {"size_bytes": -1}, {"bpp": float("nan")}):
        with pytest.raises(UsageError, match="expected a budget above 0"):
            codec.encode(image, **options)
    for quality in (-1, 101, float("nan")):
        with pytest.raises(UsageError, match="expected a quality in 0..100"):
            codec.encode(image, quality=quality)


@pytest.mark.parametrize("kind", KINDS)
def test_the_payload_is_as_long_as_the_tables_say(codec, photos, kind: str) -> None:
    image = photos[kind]
    importance = np.linspace(0, 1, 200 * 300).reshape(200, 300).astype(np.float32)
    for quality, weights in ((5, None), (50, importance), (95, None)):
        encoded = codec.encode_detailed(image, quality=quality, importance=weights)
        container = read_container(encoded.data)
        ideal = (encoded.symbols.bits_z.sum() + encoded.symbols.bits_y.sum()) / 8
        assert ideal - 1 <= len(container.payload) <= 1.005 * ideal + 8
        maps = len(container.level_map) + len(container.tone) + bool(container.tone)  # and a length
        overhead = len(encoded.data) - len(container.payload) - maps
        assert overhead <= 32
        assert sum(container.sections.values()) == len(encoded.data)


def test_metadata_are_of_the_budget_and_of_no_pixel(codec, photos) -> None:
    """They cost their bytes at a quality, none beyond a budget, and the picture is the same."""
    about = {"copyright": "x" * 200}
    image = photos["face"]
    plain, said = (codec.encode(image, metadata=m) for m in (False, about))
    assert len(said) - len(plain) == 2 + len("copyright=") + 200
    assert codec.metadata(said) == about and codec.metadata(plain) == {}
    np.testing.assert_array_equal(codec.decode(said), codec.decode(plain))
    assert 880 <= len(codec.encode(image, size_bytes=900, metadata=about)) <= 900
    # an array says nothing; a Pillow picture says what it knows
    assert codec.encode(image, metadata=True) == plain
    picture = Image.fromarray(image)
    picture.getexif()[0x8298] = "© mine".encode()
    assert codec.metadata(codec.encode(picture, metadata=True)) == {"copyright": "© mine"}
    assert codec.metadata(codec.encode(picture)) == {}
    with pytest.raises(UsageError, match="True, False or a mapping, got 'me'"):
        codec.encode(image, metadata="me")
    with pytest.raises(UsageError, match="expected keys out of date, copyright, artist"):
        codec.encode(image, metadata={"where": "home"})


def test_bits_go_where_they_matter(codec, photos) -> None:
    """At equal size, cells inside a box get more bits and a latent closer to the truth."""
    for kind in ("face", "cat"):
        image = photos[kind]
        importance = np.zeros(image.shape[:2], np.float32)
        importance[40:120, 80:160] = 1
        inside = np.zeros((25, 38), bool)
        inside[5:15, 10:20] = True
        uniform = codec.encode_detailed(image, size_bytes=900)
        roi = codec.encode_detailed(image, size_bytes=900, importance=importance)
        assert abs(len(uniform.data) - len(roi.data)) <= 18
        assert roi.symbols.bits_y[inside].sum() > 1.5 * uniform.symbols.bits_y[inside].sum()
        assert roi.symbols.bits_y[~inside].sum() < uniform.symbols.bits_y[~inside].sum()
        assert roi.header.level_count == 2 and uniform.header.level_count == 1
        errors = []
        y = codec._programs.latent(image)[:25, :38]
        table = node_table(codec.bundle.config.noise_schedule)
        for encoded in (uniform, roi):
            _, levels, symbols = read_symbols(encoded.data, codec.bundle.integers)
            signal = np.sqrt(table.alpha_bar[levels.node_map][..., None])
            error = dequantise(symbols, levels, table)[0] / signal - y
            errors.append(np.square(error)[inside].mean())
        assert errors[1] < 0.7 * errors[0]


def test_strength_zero_and_equal_importance_are_uniform(codec, photos) -> None:
    image = photos["cat"]
    importance = np.zeros(image.shape[:2], np.float32)
    importance[40:120, 80:160] = 1
    plain = codec.encode(image, quality=40)
    assert codec.encode(image, quality=40, importance=importance, roi_strength=0.0) == plain
    assert codec.encode(image, quality=40, importance=np.ones_like(importance)) == plain
    half, full = (
        codec.encode_detailed(image, quality=60, importance=importance, roi_strength=strength)
        for strength in (0.5, 1.0)
    )
    assert half.header.n_lo == full.header.n_lo < half.header.n_hi < full.header.n_hi


def test_bad_importance_is_refused(codec) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(UsageError, match=r"size \(20, 30\), got \(30, 20\)"):
        codec.encode(image, importance=np.zeros((30, 20)))
    for value in (-0.1, 1.1, np.nan):
        with pytest.raises(UsageError, match="importance values in 0..1"):
            codec.encode(image, importance=np.full((20, 30), value))
    with pytest.raises(UsageError, match="strength in 0..1"):
        codec.encode(image, importance=np.zeros((20, 30)), roi_strength=1.5)
