"""tiny: the model that ships with the package."""

from rcodec_jax.config.train import Config, DataConfig, LossConfig, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    return Config(
        name="tiny",
        train=TrainConfig(
            stages=(StageConfig(steps=12000),),
            data=DataConfig(exclude=("cid22_graphics",), cache_mb=2000),
        ),
    )
