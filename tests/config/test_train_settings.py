"""Settings that would fail days into a run, or make it do nothing, are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcodec_jax.config import apply_overrides, load_config
from rcodec_jax.config.train import Config, StageConfig, TrainConfig
from rcodec_jax.errors import UsageError

NANO = str(Path(__file__).parents[2] / "configs" / "nano.py")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("stages", "()", "stages: expected at least one"),
        ("stages.0.steps", "0", "steps: expected whole numbers of at least 1, got 0"),
        ("stages.0.batch_size", "0", "batch_size: expected whole numbers of at least 1"),
        ("stages.0.accumulate", "0", "accumulate: expected whole numbers of at least 1"),
        ("stages.0.accumulate", "3", "batch_size: expected a multiple of accumulate 3, got 4"),
        ("stages.0.crop_px", "72", "crop_px: expected a positive multiple of 32, got 72"),
        ("stages.0.crop_px", "0", "crop_px: expected a positive multiple of 32, got 0"),
        ("stages.0.node_range", "0,1024", "node_range: expected two nodes within 0..1023"),
        ("stages.0.node_range", "700,200", "in ascending order, got 700 and 200"),
        ("stages.0.warmup", "-1", "warmup: expected whole numbers of at least 0"),
        ("stages.0.learning_rate", "0", "learning_rate: expected a number above 0"),
        ("stages.0.final_learning_rate", "-.1", "expected numbers of at least 0, got -0.1"),
        ("stages.0.latents", "true", "latents: expected kind codec, got joint"),
        ("data.maps", "()", "maps: expected at least one, got none"),
        ("stages.0.loss.lpips", "-1", "lpips: expected numbers of at least 0, got -1.0"),
        ("stages.0.loss.texture", "3", "texture: expected structure above 0 with it, got 0"),
        ("stages.0.refine", "9", "refine: expected at most 8, got 9"),
        ("stages.0.refine", "2", "refine: expected kind joint and loss.trim above 0 with it"),
        ("steps", "0", "steps: expected whole numbers of at least 1"),
        ("ema_decay", "1.5", "ema_decay: expected a number in 0..1, got 1.5"),
        ("clip", "0", "clip: expected a number above 0, got 0.0"),
        ("log_every", "0", "log_every: expected whole numbers of at least 1"),
        ("save_every", "0", "save_every: expected whole numbers of at least 1"),
        ("sample_every", "-1", "sample_every: expected whole numbers of at least 0"),
        ("profile", "0,5", "profile: expected whole numbers of at least 1"),
        ("lpips_nets", "()", "lpips_nets: expected at least one"),
    ],
)
def test_settings_of_no_run(key: str, value: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        apply_overrides(load_config(NANO, Config), [f"train.{key}={value}"])


def test_centroids_need_a_denoiser_and_stages_that_know_them() -> None:
    config = load_config(NANO, Config)
    for overrides, words in (
        (["model.hyper.centroids=true"], "centroids: expected stages with loss.trim above 0"),
        (
            ["train.stages.0.loss.trim=9", "model.hyper.centroids=true", "model.unet.prediction=v"],
            "centroids: expected unet.prediction residual, got v",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            apply_overrides(config, overrides)


def test_a_run_ends_with_its_stages_or_where_it_is_told_to() -> None:
    stages = (StageConfig(steps=3), StageConfig(steps=4))
    assert TrainConfig(stages).total_steps == TrainConfig(stages, steps=9).total_steps == 7
    assert TrainConfig(stages, steps=5).total_steps == 5
