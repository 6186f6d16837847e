"""The paper-size models have the sizes they are known by; nothing is allocated to count."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from rcodec_jax.config import load_config
from rcodec_jax.config.train import Config
from rcodec_jax.model.networks import Networks, count_parameters

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("recipe", "unet", "total"),
    [("paper", 865.910724, 953.7), ("paper_sd15", 859.520964, 947.3)],
)
def test_parameters_of_the_paper_size_models(recipe: str, unet: float, total: float) -> None:
    """Of autoencoder and UNet to the digit, as diffusers counts them; the paper says 953.7 M."""
    model = load_config(CONFIGS / f"{recipe}.py", Config).model
    shapes = jax.eval_shape(Networks(model).init, jax.random.key(0))
    millions = {part: count / 1e6 for part, count in count_parameters(shapes).items()}
    context = shapes["unet"]["context"].size / 1e6
    assert millions["encoder"] + millions["decoder"] == pytest.approx(83.653863, abs=1e-9)
    assert millions["unet"] - context == pytest.approx(unet, abs=1e-9)
    entropy = sum(size for part, size in millions.items() if part.startswith("hyper_"))
    assert entropy == pytest.approx(4.1, abs=0.05)
    assert sum(millions.values()) == pytest.approx(total, rel=1e-3)
