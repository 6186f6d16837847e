"""nano: a toy for tests and golden files; seconds to train, good for nothing else.

    rcodec train configs/nano.py --data FOLDER --workdir runs/nano
    rcodec freeze runs/nano --out bundle/

Hardware and time: 2 CPU cores, about a minute. Expected at the end: a loss that fell, no more.
"""

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    return Config(
        name="nano",
        model=ModelConfig(
            latent_channels=4,
            node_range=(80, 880),
            autoencoder=AutoencoderConfig(channels=(8,), patch=8),
            unet=UNetConfig(channels=(8, 16), time_features=16),
            hyper=HyperConfig(hyper_channels=4, analysis=8, synthesis=(4, 4, 4), classes=4),
        ),
        train=TrainConfig(
            stages=(
                StageConfig(steps=400, batch_size=4, crop_px=64, learning_rate=3e-3, warmup=20),
            ),
            save_every=100,
            sample_every=0,
        ),
    )
