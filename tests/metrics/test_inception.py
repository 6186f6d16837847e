"""Inception V3 for FIDs: its sizes as published, and where its pools differ from torchvision's."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.metrics import frechet, inception
from rcodec_jax.metrics.inception import Conv, Inception

SHAPES = inception.expected_shapes()
PARAMS = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}


def test_sizes_are_those_published() -> None:
    # Keras counts as many trainable parameters without the classifier; its norms have no gain.
    assert sum(math.prod(shape) for shape in SHAPES.values()) == 21_768_352
    image = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    found = {
        name: x.shape[1:] for name, x in jax.eval_shape(inception.blocks, PARAMS, image).items()
    }
    expected = {"stem": (35, 35, 192), "Mixed_5b": (35, 35, 256)}
    expected |= dict.fromkeys(("Mixed_5c", "Mixed_5d"), (35, 35, 288))
    expected |= dict.fromkeys((f"Mixed_6{c}" for c in "abcde"), (17, 17, 768))
    expected |= {"Mixed_7a": (8, 8, 1280)} | dict.fromkeys(("Mixed_7b", "Mixed_7c"), (8, 8, 2048))
    assert found == expected


def test_any_size_gives_2048_features() -> None:
    image = jax.ShapeDtypeStruct((3, 256, 256, 3), jnp.float32)
    assert jax.eval_shape(lambda p, x: Inception(p)(x), PARAMS, image).shape == (3, 2048)


def test_pools_count_no_padding() -> None:
    x = np.random.default_rng(0).normal(-5, 1, (1, 4, 5, 2)).astype(np.float32)
    pools = {"average": np.mean, "maximum": np.max}
    for name, of in pools.items():
        found = jax.jit(functools.partial(inception._step, {}, "", name))(x)
        assert found.shape == x.shape
        for i, j in np.ndindex(4, 5):
            part = x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            np.testing.assert_allclose(found[0, i, j], of(part, axis=(0, 1)), rtol=1e-5)
    # The maximum stands in the last block alone.
    pools_of = {
        name: [branch[0] for branch in branches if isinstance(branch[0], str)]
        for name, branches in inception._BLOCKS.items()
    }
    assert [name for name, found in pools_of.items() if "maximum" in found] == ["Mixed_7c."]
    assert sum("average" in found for found in pools_of.values()) == 8


def test_a_convolution_of_one_row_acts_along_the_row() -> None:
    x = jnp.zeros((1, 7, 7, 1)).at[0, 3, 3, 0].set(1.0)
    params = {"c_w": jnp.arange(7.0).reshape(1, 7, 1, 1), "c_b": jnp.full(1, -2.0)}
    found = inception._step(params, "", Conv("c", 1, (1, 7)), x)[0, :, :, 0]
    np.testing.assert_array_equal(found[3], [4, 3, 2, 1, 0, 0, 0])
    assert float(jnp.sum(found)) == 10


def test_features_of_fid_are_of_patches_of_256_px_on_both_grids() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (384, 640, 3), np.uint8)

    def stand_in(image: jax.Array) -> jax.Array:
        return image[:, 0, 0]

    found = frechet.fid_features(jax.tree_util.Partial(stand_in), pixels)  # type: ignore[arg-type]
    corners = [(0, 0), (0, 256), (128, 128), (128, 384)]
    expected = [pixels[corner] / 127.5 - 1 for corner in corners]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(frechet.fid_features(jax.tree_util.Partial(stand_in), pixels[:255])) == 0  # type: ignore[arg-type]


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Inception weights .* --kind inception"):
        Inception.load(tmp_path)
