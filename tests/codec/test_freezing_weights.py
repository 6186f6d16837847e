"""Freezing a folder of weights: what training tracked is used, what nobody tracked is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rcodec_jax.codec.codec import Codec
from rcodec_jax.errors import BundleError, UsageError
from rcodec_jax.model.bundle import FLOAT, load_bundle, save_bundle, shipped_bundle
from rcodec_jax.model.freezing import freeze
from rcodec_jax.model.ranges import measured_ranges
from rcodec_jax.model.trained import load_trained
from rcodec_jax.model.trees import flatten
from rcodec_jax.model.weights_writer import WeightsWriter


@pytest.fixture
def weights(bundle, floats, tmp_path):
    """Writes the nano run as a folder of weights."""

    def write(*, tracked: bool) -> Path:
        params = bundle.params | {k: v for k, v in floats.items() if k != "ranges"}
        folder = tmp_path / f"weights-{tracked}"
        with WeightsWriter(
            folder,
            bundle.config,
            shift=bundle.shift,
            power=float(bundle.scale[0]) ** -2,
            ranges=floats["ranges"] if tracked else None,
            source={"repo": "somewhere"},
            card={"name": "again"},
        ) as writer:
            for name, value in flatten(params).items():
                writer.add(name, np.asarray(value))
        return folder

    return write


def test_tracked_ranges_give_the_same_model(bundle, golden, weights, tmp_path) -> None:
    freeze(weights(tracked=True), tmp_path / "bundle", card={"more": 1})
    again = load_bundle(tmp_path / "bundle")
    assert again.integers.digest == bundle.integers.digest
    assert (tmp_path / "bundle" / FLOAT).read_bytes() == (golden.BUNDLE / FLOAT).read_bytes()
    assert again.card == {"source": {"repo": "somewhere"}, "name": "again", "more": 1}
    assert not list((tmp_path / "bundle").glob("*.part"))


def test_folders_that_are_something_else_are_refused(weights, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="a step is of a run, and this folder holds weights"):
        freeze(weights(tracked=True), out, step=3)
    with pytest.raises(UsageError, match="a step is of a run, and this folder holds a bundle"):
        load_trained(shipped_bundle(), step=3)
    with pytest.raises(UsageError, match="expected the folder of a run or of weights, got a bund"):
        freeze(shipped_bundle(), out)
    with pytest.raises(UsageError, match="a run or a bundle, got none of them"):
        freeze(tmp_path, out)
    with pytest.raises(UsageError, match="a run or a bundle, got nothing there"):
        load_trained(tmp_path / "absent")
    assert not out.exists()


def test_a_latent_scaled_by_channel_is_not_trained_on(bundle, tmp_path) -> None:
    """Files decode with it all the same; training has one scale."""
    scale = bundle.scale * np.linspace(1, 2, bundle.scale.size, dtype=np.float32)
    parts = (bundle.config, bundle.integers, bundle.params, bundle.shift)
    save_bundle(tmp_path, *parts, scale, bundle.card)
    np.testing.assert_array_equal(load_bundle(tmp_path).scale, scale)
    with pytest.raises(BundleError, match="one scale"):
        load_trained(tmp_path, entropy=False)


def test_measured_ranges_are_near_what_training_tracked() -> None:
    shipped = load_trained(shipped_bundle())
    found = measured_ranges(shipped.config, shipped.params)
    for name, tracked in shipped.ranges.items():
        # z of pictures is smoother than draws; a factor of 4 is 2 of 16 bits.
        assert tracked / 2 < found[name] < tracked * 4, name
    assert found == measured_ranges(shipped.config, shipped.params)


def test_measured_ranges_cost_next_to_nothing(codec, weights, photos, tmp_path) -> None:
    freeze(weights(tracked=False), tmp_path / "bundle")
    measured = Codec(load_bundle(tmp_path / "bundle"))
    for quality in (20, 80):
        data = measured.encode(photos["face"], quality=quality)
        assert measured.decode(data).shape == photos["face"].shape
        assert len(data) <= 1.01 * len(codec.encode(photos["face"], quality=quality)) + 2


def test_training_starts_from_weights(floats, weights) -> None:
    trained = load_trained(weights(tracked=True))
    assert trained.ranges == pytest.approx(floats["ranges"])
    for name, value in flatten(floats["hyper_synthesis"]).items():
        np.testing.assert_array_equal(flatten(trained.params)[f"hyper_synthesis/{name}"], value)


def test_half_the_precision_decodes_the_same_symbols(codec, bundle, photos) -> None:
    """bfloat16 changes pixels by a little, and what is in a file not at all."""
    half = Codec(bundle, dtype="bfloat16")
    data = codec.encode(photos["face"], quality=60)
    one, other = (c.decode(data).astype(np.float64) for c in (codec, half))
    assert 0 < np.abs(one - other).mean() < 3
    again = codec.decode(half.encode(photos["face"], quality=60))
    assert np.abs(again - one).mean() < 6
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        Codec(bundle, dtype="float16")  # type: ignore[arg-type]
