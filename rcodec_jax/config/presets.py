"""Shapes that recipes share: Stable Diffusion's networks with our entropy model."""

from __future__ import annotations

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig

SD_AUTOENCODER = AutoencoderConfig(
    channels=(128, 256, 512, 512),
    layers=2,
    patch=1,
    norm="group",
    attention=True,
    quant_conv=True,
)
"""Stable Diffusion's AutoencoderKL, 83.65 M parameters."""

SD21_UNET = UNetConfig(
    channels=(320, 640, 1280, 1280),
    layers=2,
    heads=(5, 10, 20, 0),
    middle_heads=20,
    linear_projection=True,
    context_features=1024,
    time_features=1280,
    norm="group",
    scale_shift=False,
    prediction="v",
    prior=False,
)
"""Stable Diffusion 2.1's UNet, 865.91 M parameters without the context; 2.1-base predicts epsilon.
"""

SD15_UNET = UNetConfig(
    channels=(320, 640, 1280, 1280),
    layers=2,
    heads=(8, 8, 8, 0),
    middle_heads=8,
    linear_projection=False,
    context_features=768,
    time_features=1280,
    norm="group",
    scale_shift=False,
    prediction="epsilon",
    prior=False,
)
"""Stable Diffusion 1.5's UNet, 859.52 M parameters without the context."""

PAPER_HYPER = HyperConfig(hyper_channels=48, analysis=256, synthesis=(256, 160, 144))
"""Entropy model of the paper's size, 4.1 M parameters."""


def stable_diffusion(unet: UNetConfig) -> ModelConfig:
    """A codec around Stable Diffusion's autoencoder and a UNet: 953.7 M with `SD21_UNET`."""
    return ModelConfig(
        latent_channels=4,
        autoencoder=SD_AUTOENCODER,
        unet=unet,
        hyper=PAPER_HYPER,
        steps=4,
    )
