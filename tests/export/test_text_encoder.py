"""The constant context by a text encoder: what diffusers' pipelines hand on for no text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import peers
import pytest

from rcodec_jax.errors import UsageError
from rcodec_jax.export.context import TOKENS, find_context
from rcodec_jax.export.repository import Repository

FEATURES = 16
START, END = 4, 5


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A tiny random CLIP with a tokenizer of a few letters."""
    transformers = peers.installed("transformers")
    torch = peers.installed("torch")
    root = tmp_path_factory.mktemp("clip")
    tokens = ["a", "a</w>", "b", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    (root / "tokenizer").mkdir()
    vocabulary = json.dumps({token: i for i, token in enumerate(tokens)})
    (root / "tokenizer/vocab.json").write_text(vocabulary)
    (root / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    settings = {"model_max_length": TOKENS, "tokenizer_class": "CLIPTokenizer",
                "pad_token": "<|endoftext|>"}  # fmt: skip
    (root / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=FEATURES, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=START, eos_token_id=END, pad_token_id=END,
    )  # fmt: skip
    with peers.quiet():
        torch.manual_seed(0)
        transformers.CLIPTextModel(config).eval().save_pretrained(root / "text_encoder")
    return root


def test_the_context_of_no_text(repository: Path) -> None:
    transformers, torch = peers.installed("transformers"), peers.installed("torch")
    with peers.quiet():
        context, origin = find_context(Repository(str(repository)), FEATURES, None, seed=0)
        model = transformers.CLIPTextModel.from_pretrained(repository / "text_encoder").eval()
        # no text is a start and then ends to the full length
        ids = torch.tensor([[START] + [END] * (TOKENS - 1)])
        expected = model(ids).last_hidden_state[0].detach().numpy()
    assert context.shape == (TOKENS, FEATURES) and context.dtype == np.float32
    assert "text encoder" in origin
    np.testing.assert_allclose(context, expected, atol=1e-5)


def test_a_text_encoder_of_another_width(repository: Path) -> None:
    with peers.quiet(), pytest.raises(UsageError, match="text encoder of 12 channels, got 16"):
        find_context(Repository(str(repository)), 12, None, seed=0)


def test_without_transformers_the_context_is_learned(repository, monkeypatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    context, origin = find_context(Repository(str(repository)), FEATURES, None, seed=0)
    assert context.shape == (TOKENS, FEATURES) and "no package transformers" in origin
    with pytest.raises(UsageError, match="no package transformers"):
        find_context(Repository(str(repository)), FEATURES, "text", seed=0)
