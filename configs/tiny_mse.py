"""tiny_mse: tiny for squared error alone, for a first run: it needs nothing besides pictures.

    rcodec train configs/tiny_mse.py --data FOLDER --workdir runs/tiny_mse
    rcodec freeze runs/tiny_mse --out bundle/

The model is that of `tiny.py`, whose pictures look better: two of its three stages are trained for
LPIPS, whose weights have to be made first ('rcodec import --kind lpips').
Hardware and time: 2 shared CPU cores, about 60 minutes. Expected at the end: smooth pictures, with
the PSNR of tiny or a little more. Add `--minutes 10` for a look.
"""

from rcodec_jax.config.train import Config, DataConfig, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    pixels = StageConfig(
        kind="joint",
        steps=12_000,
        batch_size=4,
        learning_rate=1e-3,
        final_learning_rate=5e-6,
    )
    return Config(
        name="tiny_mse",
        train=TrainConfig(stages=(pixels,), data=DataConfig(cache_mb=2000)),
    )
