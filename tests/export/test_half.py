"""Weights in half precision."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.export.exporting import export_weights
from rcodec_jax.model.networks import parameter_shapes, tracked_ranges
from rcodec_jax.model.trained import Trained, load_trained
from rcodec_jax.model.trees import flatten, unflatten

MODEL = ModelConfig(
    latent_channels=3,
    autoencoder=AutoencoderConfig(channels=(4,), patch=8),
    unet=UNetConfig(channels=(4,), time_features=8),
    hyper=HyperConfig(hyper_channels=3, analysis=4, synthesis=(4, 4, 4), classes=4),
)


def test_half_precision_rounds_every_parameter(tmp_path) -> None:
    rng = np.random.default_rng(0)
    flat = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in parameter_shapes(MODEL).items()
    }
    ranges = dict.fromkeys(tracked_ranges(MODEL), 2.0)
    model = Trained(MODEL, unflatten(flat), np.zeros(3, np.float32), 1.5, ranges, {})
    for half in (False, True):
        out = tmp_path / str(half)
        export_weights(model, out, half=half)
        for name, value in flatten(load_trained(out).params).items():
            expected = flat[name].astype(np.float16) if half else flat[name]
            assert np.asarray(value).dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(value), expected)
    flat["unet/head/conv_out/conv/bias"] = np.full(3, 1e6, np.float32)
    with pytest.raises(UsageError, match="unet/head/conv_out/conv/bias: expected values within"):
        export_weights(
            dataclasses.replace(model, params=unflatten(flat)), tmp_path / "b", half=True
        )
