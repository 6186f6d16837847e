"""The denoiser is told one timestep for the picture, in training and at coding."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(
        ("model.unet.see_map=false",),
        claim="spatial diffusion lifts low rates",
        where="low",
        seeds=2,
    )
