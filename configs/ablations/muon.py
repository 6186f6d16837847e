"""Muon in the place of Adam."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.optimizer=muon",))
