"""SSIMULACRA 2 against the package of that name: the reference, in double precision."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics.ssimulacra2 import MIN_SIDE_PX, ssimulacra2

_score = jax.jit(ssimulacra2)


def photo(height: int, width: int) -> np.ndarray:
    astronaut: np.ndarray = pytest.importorskip("skimage.data").astronaut()
    return astronaut[20 : 20 + height, 130 : 130 + width]


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(file))


def score(a: np.ndarray, b: np.ndarray) -> float:
    return float(_score(*(jnp.asarray(x[None] / 255, jnp.float32) for x in (a, b)))[0])


def reference(*pictures: np.ndarray) -> float:
    package = pytest.importorskip("ssimulacra2")
    files = [io.BytesIO(), io.BytesIO()]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file, "PNG")
    return float(package.compute_ssimulacra2(*files))


# All six scales, sides that stay odd with three, and the smallest picture.
@pytest.mark.parametrize("size", [(256, 264), (45, 71), (MIN_SIDE_PX, 9)], ids=str)
def test_scores_are_those_of_the_package(size: tuple[int, int]) -> None:
    original = photo(*size)
    for quality in (5, 40, 90):
        decoded = through_jpeg(original, quality)
        assert score(original, decoded) == pytest.approx(reference(original, decoded), abs=0.05)


def test_equal_pictures_have_100_and_less_quality_less() -> None:
    original = photo(256, 264)
    assert score(original, original) == 100
    scores = [score(original, through_jpeg(original, quality)) for quality in (95, 75, 50, 20, 5)]
    assert 100 > scores[0] > 85 and scores[-1] < 20
    assert scores == sorted(scores, reverse=True)


def test_added_and_lost_edges_count_differently() -> None:
    """The measure has an original: what is ringing one way round is blur the other."""
    original, decoded = photo(256, 264), through_jpeg(photo(256, 264), 10)
    assert abs(score(original, decoded) - score(decoded, original)) > 0.5


def test_pairs_are_scored_one_by_one() -> None:
    original = photo(45, 71)
    decoded = [through_jpeg(original, quality) for quality in (10, 60)]
    pairs = [jnp.asarray(np.stack(p) / 255, jnp.float32) for p in ((original, original), decoded)]
    alone = [score(original, one) for one in decoded]
    np.testing.assert_allclose(_score(*pairs), alone, atol=1e-3)


def test_shapes_are_checked() -> None:
    with pytest.raises(UsageError, match="at least 8 px, got 7x20"):
        ssimulacra2(jnp.zeros((1, 7, 20, 3)), jnp.zeros((1, 7, 20, 3)))
    for a, b in (((1, 9, 9, 3), (1, 9, 8, 3)), ((9, 9, 3), (9, 9, 3)), ((1, 9, 9, 4),) * 2):
        with pytest.raises(UsageError, match="two"):
            ssimulacra2(jnp.zeros(a), jnp.zeros(b))
