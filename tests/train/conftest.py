"""A model below nano, made pictures, and runs of a few steps."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, MeshConfig, StageConfig, TrainConfig

MODEL = ModelConfig(
    latent_channels=3,
    autoencoder=AutoencoderConfig(channels=(4,), patch=8),
    unet=UNetConfig(channels=(4,), time_features=8),
    hyper=HyperConfig(hyper_channels=3, analysis=4, synthesis=(4, 4, 4), classes=4),
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Five pictures with edges, slopes and texture."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:96, :80] / 96.0
    for n in range(5):
        waves = np.sin(7 * (n + 1) * row + 5 * column)[..., None] * rng.uniform(20, 90, 3)
        pixels = 128 + waves + rng.normal(0, 8, (96, 80, 3))
        pixels[20 + n : 50, 10 : 40 + n] = rng.uniform(0, 255, 3)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{n}.png")
    return folder


def make_config(*kinds: str, steps: int = 2, **train: Any) -> Config:
    """A run with a stage of each kind in turn, `steps` long each, that tells of every step."""
    stages = tuple(
        StageConfig(kind=kind, steps=steps, batch_size=4, crop_px=64, warmup=1)  # type: ignore[arg-type]
        for kind in kinds
    )
    defaults = {"log_every": 1, "save_every": 2, "sample_every": 0, "mesh": MeshConfig(data=1)}
    return Config("pico", MODEL, TrainConfig(stages=stages, **(defaults | train)))


def stop_after(config: Config, steps: int) -> Config:
    """The same run, told to stop earlier."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))


@functools.lru_cache
def abstract_state(model: ModelConfig, train: TrainConfig) -> Any:
    """What a checkpoint of such a run holds, on one device."""
    from rcodec_jax.model.networks import Networks
    from rcodec_jax.train.step.optimizer import make_optimizer
    from rcodec_jax.train.step.state import init_state

    shapes = jax.eval_shape(lambda: init_state(Networks(model), make_optimizer(train), train))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes)


def load_state(config: Config, workdir: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """A checkpoint (the latest), arrays by path: step, params, ema, opt, stats."""
    from rcodec_jax.checkpoint import Checkpoints

    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        assert step is not None
        state, _ = checkpoints.restore(step, abstract_state(config.model, config.train))
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Rows of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@dataclasses.dataclass(frozen=True)
class Tools:
    """What tests of runs need; handed over as a fixture, since test folders are no packages."""

    config: Callable[..., Config] = make_config
    stop_after: Callable[[Config, int], Config] = stop_after
    state: Callable[..., dict[str, np.ndarray]] = load_state
    metrics: Callable[[Path], list[dict[str, float]]] = read_metrics


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()
