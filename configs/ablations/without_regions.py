"""No maps of the kind "regions" in training."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.data.maps=uniform,gradient,blobs,masks",))
