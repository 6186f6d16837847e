"""The entropy model sees neither the timestep nor the map."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("model.hyper.see_node=false", "model.hyper.see_map=false"))
