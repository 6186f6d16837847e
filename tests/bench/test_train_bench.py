"""`rcodec bench train`: figures that follow from one another."""

from __future__ import annotations

import json

import jax
import pytest

from rcodec_jax.bench import train as bench
from rcodec_jax.bench.peak import Peaks
from rcodec_jax.cli.main import main
from rcodec_jax.model.networks import Networks, count_parameters

RECIPE = """
from rcodec_jax.config.model import AutoencoderConfig, HyperConfig, ModelConfig, UNetConfig
from rcodec_jax.config.train import Config, MeshConfig, LossConfig, StageConfig, TrainConfig

def config():
    model = ModelConfig(
        latent_channels=3,
        autoencoder=AutoencoderConfig(channels=(4,), patch=8),
        unet=UNetConfig(channels=(4,), time_features=8),
        hyper=HyperConfig(hyper_channels=3, analysis=4, synthesis=(4, 4, 4), classes=4),
    )
    stage = StageConfig(kind="codec", batch_size=2, crop_px=64, loss=LossConfig(lpips=1.0))
    return Config("pico", model, TrainConfig((stage,), mesh=MeshConfig(data=1)))
"""


samples = []


class Meter:
    """Peaks that are known."""

    def __init__(self, dtype, *, compiler_options) -> None:
        pass

    def sample(self) -> None:
        samples.append(1)

    def median(self) -> Peaks:
        return Peaks(1e9, 3e9)

    def best(self) -> Peaks:
        return Peaks(2e9, 4e9)


@pytest.mark.slow
def test_the_table_of_a_recipe(tmp_path, monkeypatch, capsys) -> None:
    recipe = tmp_path / "pico.py"
    recipe.write_text(RECIPE)
    monkeypatch.setattr(bench, "PeakMeter", Meter)
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)  # quick to compile, slow to run
    try:
        assert main(["bench", "train", "--config", str(recipe), "--steps", "3", "--json"]) == 0
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    figures = json.loads(capsys.readouterr().out)
    (row,) = figures["rows"]
    assert row["model"] == "pico" and row["batch_size"] == 2 and len(row["seconds"]) == 3
    flops = row["flops"]["matmul"] + row["flops"]["conv"]
    assert flops > 0 and row["flops_per_s"] == pytest.approx(flops / row["step_s"])
    assert row["images_per_s"] == pytest.approx(2 / row["step_s"])
    usual = row["flops"]["matmul"] / 1e9 + row["flops"]["conv"] / 3e9
    assert row["of_peak"] == pytest.approx(usual / row["step_s"])
    fastest = row["flops"]["matmul"] / 2e9 + row["flops"]["conv"] / 4e9
    assert row["of_best"] == pytest.approx(fastest / min(row["seconds"]))
    assert len(samples) == 3, "a call at the peak for every timed step"


def test_an_eighth_of_the_channels_is_a_sixtieth_of_the_model() -> None:
    networks = Networks(bench.PAPER_EIGHTH)
    shapes = jax.eval_shape(networks.init, jax.random.key(0))
    counts = count_parameters(shapes)
    assert sum(counts.values()) == pytest.approx(953.7e6 / 64, rel=0.05)
