"""The entropy model does not see the timestep, in networks and tables of z."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("model.hyper.see_node=false",), claim="t lowers the rate", seeds=2)
