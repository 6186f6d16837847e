"""Random models in our layout and in diffusers', without diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.model.networks import parameter_shapes, tracked_ranges
from rcodec_jax.model.weights_writer import WeightsWriter

HYPER = HyperConfig(hyper_channels=4, analysis=8, synthesis=(4, 4, 4), classes=4)
TOKENS = 5
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


def small(*, linear: bool = True) -> ModelConfig:
    """A model that diffusers can express: as SD 2.1 (linear projections) or 1.5."""
    return ModelConfig(
        latent_channels=4,
        autoencoder=AutoencoderConfig(
            channels=(4, 8, 8, 8), layers=1, patch=1, norm="group", groups=4, attention=True,
            quant_conv=True,
        ),
        unet=UNetConfig(
            channels=(8, 16), layers=1, heads=(1, 0) if linear else (2, 0), middle_heads=2,
            linear_projection=linear, context_features=12, context_tokens=TOKENS,
            time_features=32, norm="group", groups=4, scale_shift=False,
            prediction="v" if linear else "epsilon", prior=False,
        ),
        hyper=HYPER,
        steps=4,
    )  # fmt: skip


def random_weights(
    folder: Path, config: ModelConfig, *, dtype: str = "float32", shift: float = 0.0
) -> Path:
    """A folder of weights full of random numbers."""
    rng = np.random.default_rng(0)
    writer = WeightsWriter(
        folder,
        config,
        shift=np.full(config.latent_channels, shift) * np.arange(config.latent_channels),
        power=0.18215**-2,
        ranges=dict.fromkeys(tracked_ranges(config), 1.0),
    )
    with writer:
        for name, shape in parameter_shapes(config).items():
            writer.add(name, rng.normal(0, 0.2, shape).astype(dtype))
    return folder


def rewrite(file: Path, change) -> None:
    """Replaces the tensors of a file by what `change` makes of them."""
    tensors = safetensors.numpy.load(file.read_bytes())
    file.write_bytes(safetensors.numpy.save(change(tensors)))
