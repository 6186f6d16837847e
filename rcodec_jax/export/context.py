"""The constant context of the denoiser: what Stable Diffusion's text encoder makes of no text."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from rcodec_jax.errors import UsageError
from rcodec_jax.export.repository import Repository

FILE = "context.npy"
"""Where an export in diffusers' layout keeps the context, which has no place there."""

TOKENS = 77
"""Length of a prompt of CLIP."""

_ENCODER = ("text_encoder/config.json", "text_encoder/model.safetensors")
_DEVIATION = 0.02


def find_context(
    repository: Repository, features: int, choice: str | None, *, seed: int
) -> tuple[np.ndarray, str]:
    """The context of an imported model.

    Args:
      repository: the model.
      features: channels of the context.
      choice: a .npy file; "learned" for a random start that training moves; "text" for the text
        encoder; None for what there is: the repository's own file, the text encoder, or "learned".
      seed: of the random start.

    Returns:
      (float32 [tokens, features], where it comes from in words).

    Raises:
      UsageError: no such file, not of that shape, or a text encoder that cannot be run.
    """
    if choice == "learned":
        return _random(features, seed), "random, to be learned"
    if choice is not None and choice != "text":
        return _read(Path(choice), features), Path(choice).name
    if choice is None and FILE in repository:
        return _read(repository.path(FILE), features), FILE
    missing = [file for file in _ENCODER if file not in repository]
    packages = [name for name in ("transformers", "torch") if not importlib.util.find_spec(name)]
    if not missing and not packages:
        return _encode(repository, features), "the text encoder's of an empty prompt"
    why = f"no {missing[0]}" if missing else f"no package {packages[0]}"
    if choice == "text":
        raise UsageError(f"expected a text encoder and transformers with torch, got {why}")
    return _random(features, seed), f"random, to be learned ({why})"


def _random(features: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, _DEVIATION, (TOKENS, features)).astype(np.float32)


def _read(path: Path, features: int) -> np.ndarray:
    try:
        with path.open("rb") as stream:  # not `load`: it would also open archives of arrays
            context = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected an array of floats in .npy, got: {error}") from error
    if context.ndim == 3 and context.shape[0] == 1:  # a batch of one, as pipelines hand it on
        context = context[0]
    if context.ndim != 2 or context.shape[1] != features or not len(context):
        raise UsageError(
            f"{path}: expected a context of shape [tokens, {features}], got {list(context.shape)}"
        )
    if context.dtype.kind != "f" or not np.isfinite(context).all():
        raise UsageError(f"{path}: expected finite floats, got {context.dtype}")
    return context.astype(np.float32)


def _encode(repository: Repository, features: int) -> np.ndarray:
    import transformers

    # Each is fetched where it is on the hub; together they lie in two folders.
    files = [repository.path(file) for file in (*repository.below("tokenizer"), *_ENCODER)]
    encoder = files[-1].parent
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(files[0].parent)
        prompt = tokenizer("", padding="max_length", max_length=TOKENS, return_tensors="pt")
        model = transformers.CLIPTextModel.from_pretrained(encoder)
        context = model(prompt.input_ids).last_hidden_state[0].detach().float().numpy()
    except Exception as error:  # of many kinds, with long stories
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{repository.name}: the text encoder does not run: {reason}") from error
    if context.shape != (TOKENS, features):
        raise UsageError(
            f"{repository.name}: expected a text encoder of {features} channels, "
            f"got {context.shape[1]}"
        )
    return np.array(context, np.float32)
