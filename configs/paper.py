"""paper: the model of the paper, Stable Diffusion 2.1 with an entropy model; 953.7 M parameters.

    rcodec import FOLDER_OR_HUB_ID_OF_STABLE_DIFFUSION_2.1 --out weights/
    rcodec train configs/paper.py --init-from weights/ --data DATA --workdir runs/paper \\
        --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/paper --out bundle/

2.1 predicts v; for weights of 2.1-base add --set model.unet.prediction=epsilon (import says which
they are). The entropy model is trained alone first, then with the denoiser on spatial maps of
uniform noise, then all of it end to end through a decode in one step.
Hardware and time: meant for a pod or a node of eight accelerators of 80 GB, for days; one device of
80 GB takes it with a smaller batch, or with train.stages.N.accumulate. Expected figures: none, this
recipe has never been run to its end. What is tested: sizes, that imported weights give the outputs
of their origin, and single steps. Lengths, rates of learning and weights of the losses are a
beginning, not a result. Under the same loss, see configs/tiny.py for what training brings.
"""

from rcodec_jax.config.presets import SD21_UNET, fine_tuning, stable_diffusion
from rcodec_jax.config.train import Config


def config() -> Config:
    """The recipe."""
    return Config(name="paper", model=stable_diffusion(SD21_UNET), train=fine_tuning())
