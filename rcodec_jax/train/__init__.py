"""Training: one loop for every stage, model size and number of devices."""

from rcodec_jax.train.loop.loop import Outcome, run, train

__all__ = ["Outcome", "run", "train"]
