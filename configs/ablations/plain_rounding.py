"""Plain rounding at coding, which no file has: there is no dither."""

from rcodec_jax.config.ablation import Ablation


def config() -> Ablation:
    """What changes."""
    return Ablation(seeds=2, dither=False)
