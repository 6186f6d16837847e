"""What a run finds out at its start, rather than days later at the start of a stage."""

from __future__ import annotations

from rcodec_jax.data import Source
from rcodec_jax.errors import UsageError
from rcodec_jax.model.trees import flatten
from rcodec_jax.train.input.batches import stage_batches, stage_mixture
from rcodec_jax.train.input.latent_cache import check_latents
from rcodec_jax.train.step.build import Setup
from rcodec_jax.train.step.perceptual import load_perceptual
from rcodec_jax.train.step.state import TrainState
from rcodec_jax.train.step.trainable import moving_paths


def check_stages(setup: Setup, sources: list[tuple[Source, float]], done: int) -> None:
    """Looks at the stages that are not finished after `done` steps.

    Raises:
      UsageError: one of them has no data, data too small for its crops, no weights of its loss, or
        a batch that does not divide.
    """
    config = setup.config
    for index in _to_come(setup, done):
        stage = config.train.stages[index]
        setup.check_batch(stage)
        mixture = stage_mixture(sources, stage)
        if not config.train.data.resident:
            stage_batches(config, index, mixture, setup.mesh).close()
        if stage.loss.lpips:
            load_perceptual(config.train)


def check_cached_latents(
    setup: Setup, sources: list[tuple[Source, float]], state: TrainState, done: int
) -> None:
    """Holds the latents of the stages that are not finished against the encoder.

    Raises:
      UsageError: another encoder made them, or a stage before moves it.
    """
    paths, moved = flatten(setup.shapes.params), False
    for index in _to_come(setup, done):
        stage = setup.config.train.stages[index]
        if stage.latents and moved:
            raise UsageError(
                f"stage {index}: expected an encoder at rest before a stage of cached latents, got "
                "one that an earlier stage trains"
            )
        if stage.latents:
            check_latents(stage_mixture(sources, stage), state.params)
        moved |= any(path.startswith("encoder/") for path in moving_paths(stage, paths))


def _to_come(setup: Setup, done: int) -> list[int]:
    """Indices of the stages that have steps left; all where time decides."""
    train = setup.config.train
    if train.max_minutes is not None:
        return list(range(len(train.stages)))
    return [
        index
        for index, first in enumerate(train.first_steps)
        if first < train.total_steps and done < first + train.stages[index].steps
    ]
