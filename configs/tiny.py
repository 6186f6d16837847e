"""tiny: the model that ships with the package.

    rcodec train configs/tiny.py --data FOLDER --workdir runs/tiny \\
        --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/tiny --out bundle/

Everything is trained end to end from scratch through a decode in one step: for squared error, then
with much LPIPS beside it, then with less, which is where the balance of PSNR and LPIPS is set (with
the weights of the middle stage kept, LPIPS ends far lower and PSNR 5 % of rate worse).
Hardware and time: 2 shared CPU cores, about 100 minutes. Expected at the end, over maps of all
rates: .32 bpp, PSNR 26 dB, LPIPS .13 on training crops; Kodak as in the README. The loss still
falls at the end: longer is better.
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
        steps=4181,
        batch_size=4,
        learning_rate=4e-4,
        final_learning_rate=1.5e-4,
        warmup=1,
        loss=LossConfig(mse=4.0, lpips=0.8),
    )
    balanced = StageConfig(
        kind="joint",
        steps=3300,
        batch_size=4,
        learning_rate=1.5e-4,
        final_learning_rate=5e-6,
        warmup=1,
        loss=LossConfig(mse=5.0, lpips=0.3),
    )
    return Config(
        name="tiny",
        train=TrainConfig(
            stages=(pixels, perceptual, balanced),
            lpips_nets=("alex", "squeeze"),
            data=DataConfig(exclude=("cid22_graphics",), cache_mb=2000),
        ),
    )
