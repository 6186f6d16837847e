"""No maps of the kind "gradient" in training."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.data.maps=uniform,regions,blobs,masks",))
