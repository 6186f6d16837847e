"""A trained model made larger without losing what it can: more latent channels, a finer entropy
model, a deeper autoencoder, hints for the decoder.

What is added starts from what changes nothing: new channels of the latent are coefficients of the
block transform that the old ones started from, coded on their own and seen by no network; the
hyper-latents' new tables are copies of the old ones; the last layer of a context network and of
each new residual block is zero, and so is what the decoder's hints go through. So the grown model
decodes the old channels to the same picture at the same rate, and the new ones add detail to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from rcodec_jax.config import Change, changed_fields
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.networks import parameter_shapes
from rcodec_jax.model.trees import Flat
from rcodec_jax.ops.patches import truncation

NOT_SHAPE = ("node_range", "steps", "hyper.centroids")
"""Fields of a model that its parameters do not depend on."""

_LATENT_AXIS = {
    r"encoder/head/.*/(kernel|bias)": -1,
    r"encoder/linear/kernel": -1,
    r"decoder/linear/kernel": 0,
    r"decoder/conv_in/conv/kernel": 2,
    r"unet/conv_in/conv/kernel": 2,
    r"unet/head/.*/(kernel|bias)": -1,
    r"hyper_analysis/conv_in/conv/kernel": 2,
    r"hyper_synthesis/conv_4/conv/(kernel|bias)": -1,
    r"hyper_context/conv_0/conv/kernel": 2,
    r"hyper_context/conv_2/conv/(kernel|bias)": -1,
}
"""Parameters that depend on the latent's channels C, and the axis that does: one, two or three
times C, one after the other, and what else there is behind."""


def obstacles(old: ModelConfig, new: ModelConfig) -> list[Change]:
    """What keeps parameters of one model from being those of another, or from growing into them."""
    return [change for change in changed_fields(old, new) if not _fine(change, old, new)]


def needs_growing(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether models of different shapes differ in what `grow` adds."""
    return any(not change.path.startswith(NOT_SHAPE) for change in changed_fields(old, new))


def parts_with_new_layers(old: ModelConfig, new: ModelConfig) -> tuple[str, ...]:
    """Parts of the grown model with layers that start from random parameters."""
    context = ("hyper_context",) if new.hyper.context and not old.hyper.context else ()
    deeper = new.autoencoder.layers > old.autoencoder.layers
    features = new.decoder_features > old.decoder_features
    hints = new.hint_channels > old.hint_channels
    added = {"encoder": deeper, "decoder": deeper or hints, "unet": features}
    return tuple(part for part, more in added.items() if more) + context


def grow(
    params: Flat, old: ModelConfig, new: ModelConfig, *, power: float, initial: Flat | None = None
) -> Flat:
    """The parameters of a larger model.

    Args:
      params: of the old model by path, arrays of any float.
      old, new: models without `obstacles`.
      power: mean variance of the old latent's channels, which the new one's is divided by too.
      initial: random parameters of `parts_with_new_layers`, by path; needed if there are any.

    Returns:
      float32 arrays by path.

    Raises:
      UsageError: a model that cannot grow into the other.
    """
    for change in obstacles(old, new):
        raise UsageError(f"model.{change.path}: cannot grow from {change.old} to {change.new}")
    grown: Flat = {}
    initial = initial or {}
    fills = _fills(old.latent_channels, new.latent_channels, power)
    for path, shape in parameter_shapes(new).items():
        if path not in params:
            grown[path] = np.asarray(initial.get(path, np.zeros(shape)), np.float32)
            continue
        value = np.asarray(params[path], np.float32)
        if path.startswith("hyper_prior/") and value.ndim < len(shape):
            value = np.broadcast_to(value[:, None], shape).copy()
        if value.shape != shape:
            fill = fills.get(path, np.zeros)(shape).astype(np.float32)
            value = _widened(path, value, fill, old.latent_channels, new.latent_channels)
        grown[path] = value
    return grown


def grow_shift(shift: np.ndarray, channels: int) -> np.ndarray:
    """Mean of the latent by channel, float32 [channels]: new channels have none."""
    return np.pad(np.asarray(shift, np.float32), (0, channels - len(shift)))


def _fine(change: Change, old: ModelConfig, new: ModelConfig) -> bool:
    if change.path.startswith(NOT_SHAPE):
        return True
    if change.path == "latent_channels":
        auto = old.autoencoder
        largest = 3 * CELL_PX**2
        # Nor where the decoder is given the dither, whose channels lie behind the features.
        block_transform = auto.patch > 1 and not auto.quant_conv and not old.decoder_noise
        return block_transform and old.latent_channels <= new.latent_channels <= largest
    if change.path == "autoencoder.layers":
        return new.autoencoder.layers > old.autoencoder.layers
    if change.path == "hyper.context":
        return not old.hyper.context
    if change.path in ("decoder_features", "decoder_noise"):
        return not old.hint_channels
    return change.path == "hyper.neighbours" and new.hyper.neighbours


def _fills(old: int, new: int, power: float) -> dict[str, Callable[[tuple[int, ...]], np.ndarray]]:
    """What new channels start from, where that is not zero, in the shape of the whole."""
    analysis, synthesis = truncation(CELL_PX, new)
    # Both transforms bring their latents to the same mean square, each over its own channels.
    ratio = float(truncation(CELL_PX, old)[0].max() / analysis.max())
    sizes = analysis.max(axis=0) * ratio / np.sqrt(power)
    bias = np.concatenate([np.zeros(new), np.log2(sizes)])
    return {
        "encoder/linear/kernel": lambda _: analysis * ratio,
        "decoder/linear/kernel": lambda _: synthesis / ratio,
        "hyper_synthesis/conv_4/conv/bias": lambda _: bias,
    }


def _widened(path: str, value: np.ndarray, into: np.ndarray, old: int, new: int) -> np.ndarray:
    """A parameter of more latent channels: `into` with the old channels' values in their places."""
    axis = next(axis for name, axis in _LATENT_AXIS.items() if re.fullmatch(name, path))
    value, out = np.moveaxis(value, axis, -1), np.moveaxis(into, axis, -1)
    blocks = value.shape[-1] // old
    for block in range(blocks):
        out[..., block * new : block * new + old] = value[..., block * old : (block + 1) * old]
    out[..., blocks * new :] = value[..., blocks * old :]
    return into
