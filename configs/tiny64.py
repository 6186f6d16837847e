"""tiny64: the shipped model: 64 latent channels, the finer entropy model, a deeper autoencoder.

    rcodec train configs/tiny64.py --data FOLDER --workdir runs/tiny64 --resident \\
        --init-from shipped --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/tiny64 --out bundle/

Twice the channels are for fine detail at high rates; hyper-latents from coarse to fine and the
context network save rate at all of them. More residual blocks at each resolution of the
autoencoder are better: two than one, three than two. Hints for the decoder, features of the
denoiser and the dither, save 1 to 7 % at effort 1 and cost next to nothing. It goes on from the
shipped model; from a smaller one of this kind it grows, such that nothing changes at first (see
`train.growing`). First for squared error and tone, then with LPIPS and local structure beside them,
at the end on larger crops, with a term against patterns that repeat; integers that are not worth
their bits are left out in training as in encoding, and the others stand for the means of what is
rounded to them. A tenth of the crops are of made pictures, one in twenty is grey.

Hardware and time: 2 shared CPU cores, some hours (`--minutes N` gives the run N minutes, the
learning rates with them); on one card `launch/accelerator.sh`. Expected at the end: the whole rate
range of tiny at fewer bits, and fine detail above it.
"""

import dataclasses

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig
from rcodec_jax.config.train import Config, DataConfig, LossConfig, StageConfig, TrainConfig


def config() -> Config:
    """The recipe."""
    pixels = StageConfig(
        kind="joint",
        steps=20_000,
        learning_rate=8e-4,
        final_learning_rate=1e-4,
        warmup=400,
        loss=LossConfig(mse=5.0, coarse=2.0, trim=16.0),
    )
    perceptual = dataclasses.replace(
        pixels,
        learning_rate=4e-4,
        final_learning_rate=9e-5,
        warmup=200,
        loss=LossConfig(mse=5.0, coarse=2.0, lpips=0.7, structure=0.09, trim=16.0),
    )
    large = dataclasses.replace(
        perceptual,
        steps=5_000,
        learning_rate=9e-5,
        final_learning_rate=1e-5,
        warmup=40,
        batch_size=4,
        crop_px=192,
        loss=dataclasses.replace(perceptual.loss, lattice=150.0),
    )
    return Config(
        name="tiny64",
        model=ModelConfig(
            latent_channels=64,
            autoencoder=AutoencoderConfig(layers=3),
            hyper=HyperConfig(neighbours=True, context=96, centroids=True),
            decoder_features=48,
            decoder_noise=True,
        ),
        train=TrainConfig(
            stages=(pixels, perceptual, large),
            optimizer="muon",
            lpips_nets=("squeeze",),
            data=DataConfig(made=0.1, grey=0.05, cache_mb=2000),
        ),
    )
