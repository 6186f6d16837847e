"""No maps of the kind "masks" in training."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.data.maps=uniform,regions,gradient,blobs",))
