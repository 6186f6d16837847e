"""Gaussian noise stands for quantisation in training."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(("train.stages.0.noise=gaussian",))
