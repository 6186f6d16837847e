"""The entropy model sees one timestep, but not how cells differ."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(
        ("model.hyper.see_map=false",),
        claim="the map lowers the rate on spatial maps",
        where="region",
        seeds=2,
    )
