"""Training: one loop for every stage, model size and number of devices."""

from rcodec_jax.train.loop import run

__all__ = ["run"]
