"""What recipes share: Stable Diffusion's networks with our entropy model, and how to tune them."""

from __future__ import annotations

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import LossConfig, MeshConfig, StageConfig, TrainConfig

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
"""Stable Diffusion 2.1's UNet, 865.91 M parameters and the context; 2.1-base predicts epsilon."""

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
"""Stable Diffusion 1.5's UNet, 859.52 M parameters and the context."""

PAPER_HYPER = HyperConfig(hyper_channels=48, analysis=256, synthesis=(256, 160, 144))
"""Entropy model of the paper's size, 4.1 M parameters."""


DECODE_STEPS = 4
"""Denoiser evaluations of a decode by default: a choice of cost, not a measured optimum."""


def stable_diffusion(unet: UNetConfig) -> ModelConfig:
    """A codec around Stable Diffusion's autoencoder and a UNet: 953.7 M with `SD21_UNET`."""
    return ModelConfig(
        latent_channels=4,
        autoencoder=SD_AUTOENCODER,
        unet=unet,
        hyper=PAPER_HYPER,
        steps=DECODE_STEPS,
    )


def fine_tuning() -> TrainConfig:
    """Entropy model on fixed networks, then the denoiser with it, then everything end to end.

    The entropy model starts from nothing and wants a rate of learning that would wreck a trained
    denoiser; hence a first stage of its own. All devices share one copy of the state, whatever
    their number; only several slices of a pod need `mesh.data` (their number) besides.
    """
    entropy = StageConfig(
        kind="codec",
        steps=20_000,
        batch_size=256,
        crop_px=256,
        learning_rate=2e-4,
        final_learning_rate=2e-5,
        warmup=1000,
        freeze=("^unet/",),
    )
    denoiser = StageConfig(
        kind="codec",
        steps=100_000,
        batch_size=256,
        crop_px=512,
        learning_rate=2e-5,
        final_learning_rate=5e-6,
        warmup=2000,
        loss=LossConfig(latent=1.0),
    )
    joint = StageConfig(
        kind="joint",
        steps=30_000,
        batch_size=256,
        crop_px=256,
        learning_rate=5e-6,
        final_learning_rate=5e-7,
        warmup=1000,
        rescale=False,
        loss=LossConfig(mse=4.0, lpips=0.8, latent=0.1),
    )
    return TrainConfig(
        stages=(entropy, denoiser, joint),
        ema_decay=0.9999,
        b2=0.999,
        dtype="bfloat16",
        remat="full",
        save_every=5000,
        sample_every=5000,
        mesh=MeshConfig(data=1, fsdp=-1),
    )
