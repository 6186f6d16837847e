"""The denoiser predicts v, not what the linear estimate is wrong by."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("model.unet.prediction=v",))
