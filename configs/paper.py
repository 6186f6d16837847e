"""paper: the model of the paper, Stable Diffusion 2.1 with an entropy model; 953.7 M parameters.

    rcodec import FOLDER_OR_HUB_ID_OF_STABLE_DIFFUSION_2.1 --out weights/
    rcodec train configs/paper.py --init-from weights/ --data DATA --workdir runs/paper \\
        --set train.lpips_dir=FOLDER_WITH_LPIPS_WEIGHTS
    rcodec freeze runs/paper --out bundle/

2.1 predicts v; for weights of 2.1-base add --set model.unet.prediction=epsilon (import says which
they are). The entropy model is trained alone first, then with the denoiser on spatial maps of
uniform noise, then all of it end to end through a decode in one step.
Hardware and time: meant for a pod, or a node of eight accelerators of 80 GB; fewer or smaller ones
take it with smaller batches or with train.stages.N.accumulate. The recipe has never been run to its
end: counted, not measured, are 1.2e20 FLOP without recomputation and LPIPS, that is ten hours where
each of eight devices does 400 TFLOP/s (rcodec train configs/paper.py --describe says more).
Expected figures: none. What is tested are sizes, imported weights that give the outputs of their
origin, and single steps. Lengths, rates of learning and weights of the losses are a beginning, not
a result.
"""

from rcodec_jax.config.presets import SD21_UNET, fine_tuning, stable_diffusion
from rcodec_jax.config.train import Config


def config() -> Config:
    """The recipe."""
    return Config(name="paper", model=stable_diffusion(SD21_UNET), train=fine_tuning())
