"""tiny: the model that ships with the package.

    rcodec train configs/tiny.py --data FOLDER --workdir runs/tiny \\
        --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/tiny --out bundle/

Everything is trained end to end from scratch through a decode in one step: first for squared error,
then with LPIPS beside it. Hardware and time: 2 CPU cores, 26 minutes when they are shared (.24 s a
step when idle). Expected at the end, over maps of all rates: .24 bpp, PSNR 23 dB, LPIPS .24 on
training crops; Kodak as in the README. Ten times the steps are far from too many.
"""

from rcodec_jax.config.train import Config, DataConfig, LossConfig, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    pixels = StageConfig(
        kind="joint",
        steps=10_500,
        batch_size=4,
        learning_rate=1e-3,
        final_learning_rate=4e-4,
    )
    perceptual = StageConfig(
        kind="joint",
        steps=7000,
        batch_size=4,
        learning_rate=4e-4,
        final_learning_rate=1e-5,
        warmup=1,
        loss=LossConfig(mse=4.0, lpips=0.8),
    )
    return Config(
        name="tiny",
        train=TrainConfig(
            stages=(pixels, perceptual),
            lpips_nets=("alex", "squeeze"),
            data=DataConfig(exclude=("cid22_graphics",), cache_mb=2000),
        ),
    )
