"""Sizes that no network can have are refused by name, wherever a model's shape comes from."""

from __future__ import annotations

from typing import Any

import pytest

from rcodec_jax.config import from_dict, to_dict
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import UsageError


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("autoencoder", {"layers": -1}, "layers: expected whole numbers of at least 1, got -1"),
        ("autoencoder", {"norm": "group"}, "groups: expected a divisor of 48 channels, got 32"),
        ("unet", {"channels": []}, "channels: expected whole numbers"),
        ("unet", {"channels": [-1, 2]}, "channels: expected whole numbers"),
        ("unet", {"time_features": 0}, "time_features: expected whole numbers"),
        ("unet", {"heads": [5, 0]}, "heads: expected a divisor of 112 channels or 0, got 5"),
        ("unet", {"heads": [2, 0]}, "context_features: expected whole numbers"),
        ("unet", {"middle_heads": 2, "context_features": 8}, "groups: expected a divisor of 144"),
        ("unet", {"norm": "group"}, "groups: expected a divisor of 112 channels, got 32"),
        ("hyper", {"synthesis": [0, 4, 4]}, "synthesis: expected whole numbers"),
        ("hyper", {"classes": 0}, "classes: expected whole numbers"),
        ("hyper", {"classes": 15}, "classes: expected a divisor of 1024, at most 256, got 15"),
        ("hyper", {"classes": 512}, "classes: expected a divisor of 1024, at most 256, got 512"),
        (None, {"node_range": [5, 1024]}, "node_range: expected two nodes within 0..1023"),
        (None, {"latent_channels": 0}, "latent_channels: expected whole numbers"),
    ],
)
def test_sizes_of_no_network(part: str | None, changes: dict[str, Any], words: str) -> None:
    data = to_dict(ModelConfig())
    (data if part is None else data[part]).update(changes)
    with pytest.raises(UsageError, match=words):
        from_dict(ModelConfig, data)
