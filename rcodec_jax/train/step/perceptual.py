"""The perceptual distance of a run's loss."""

from __future__ import annotations

import jax

from rcodec_jax.config.train import TrainConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.metrics.perceptual import Lpips
from rcodec_jax.train.step.losses import Perceptual


def load_perceptual(config: TrainConfig) -> Perceptual:
    """Mean LPIPS over the networks the run names.

    Raises:
      UsageError: no folder was given, or a file is missing in it.
    """
    if not config.lpips_dir:
        raise UsageError(
            "a stage with loss.lpips > 0 needs weights: expected --set train.lpips_dir=FOLDER "
            "with what 'rcodec import --kind lpips' makes, got none (configs/tiny_mse.py: none)"
        )
    nets = [Lpips.load(config.lpips_dir, net) for net in config.lpips_nets]

    def distance(a: jax.Array, b: jax.Array) -> jax.Array:
        return sum(net(a, b) for net in nets[1:]) / len(nets) + nets[0](a, b) / len(nets)

    return distance
