"""The denoiser is told one timestep for the picture, at coding alone."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(claim="spatial diffusion lifts low rates", where="low", seeds=2, see_map=False)
