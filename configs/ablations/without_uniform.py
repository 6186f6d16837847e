"""No maps of the kind "uniform" in training."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.data.maps=regions,gradient,blobs,masks",))
