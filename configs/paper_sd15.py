"""paper_sd15: as configs/paper.py, on Stable Diffusion 1.5; 947.3 M parameters.

    rcodec import FOLDER_OR_HUB_ID_OF_STABLE_DIFFUSION_1.5 --out weights/
    rcodec train configs/paper_sd15.py --init-from weights/ --data DATA --workdir runs/paper_sd15 \\
        --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/paper_sd15 --out bundle/

Eight heads at every resolution instead of heads of 64 channels, another text encoder's context,
and epsilon as prediction.
Hardware, time and expected figures: as in configs/paper.py, that is, none measured.
"""

from rcodec_jax.config.presets import SD15_UNET, fine_tuning, stable_diffusion
from rcodec_jax.config.train import Config


def config() -> Config:
    """The recipe."""
    return Config(name="paper_sd15", model=stable_diffusion(SD15_UNET), train=fine_tuning())
