"""base: what every ablation of this folder differs from, by what its file says.

    rcodec ablate configs/ablations --data FOLDER --pictures OTHER_FOLDER --out runs/ablate

A model far below tiny, for squared error alone, at one resolution: minutes on 2 CPU cores. It
codes badly; only what changes between it and an ablation is of interest.
"""

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, DataConfig, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    return Config(
        name="ablation",
        model=ModelConfig(
            latent_channels=8,
            node_range=(80, 880),
            autoencoder=AutoencoderConfig(channels=(32,), patch=8),
            unet=UNetConfig(channels=(32,), time_features=16),
            hyper=HyperConfig(hyper_channels=4, analysis=16, synthesis=(16, 16, 16)),
        ),
        train=TrainConfig(
            stages=(
                StageConfig(steps=1200, batch_size=8, crop_px=64, learning_rate=3e-3, warmup=50),
            ),
            ema_decay=0.99,
            log_every=100,
            save_every=1200,
            sample_every=0,
            keep_latest=1,
            data=DataConfig(resident=True),
        ),
    )
