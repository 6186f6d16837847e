"""With a checkerboard context in the prior."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("model.hyper.context=16",))
