"""Names and shapes of tensors here and in diffusers' layout: one table, read in both directions.

The table is made from the paths of a model's own parameters, so it covers every size that the
configuration can say, and a parameter that is renamed without a rule here shows at once.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Literal

import numpy as np

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.model.networks import parameter_shapes

FOLDERS = {"unet": "unet", "encoder": "vae", "decoder": "vae"}
"""Folder of diffusers' layout that a part goes to; the other parts have no counterpart."""

CONTEXT = "unet/context"
"""The one parameter of these parts that diffusers keeps elsewhere: it is the text's embedding."""

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}

_RULES: tuple[tuple[str, str], ...] = (
    # thin wrappers of ours
    (r"/(norm|conv|linear)$", ""),
    (r"/head/", "/"),
    # where blocks stand
    (r"_blocks_(\d+)_(resnets|attentions)_(\d+)", r"_blocks/\1/\2/\3"),
    (r"_blocks_(\d+)_downsample$", r"_blocks/\1/downsamplers/0/conv"),
    (r"_blocks_(\d+)_upsample/conv$", r"_blocks/\1/upsamplers/0/conv"),
    (r"mid_block[_/](resnets|attentions)_(\d+)", r"mid_block/\1/\2"),
    # attention of the autoencoder, transformers of the UNet
    (r"mid_block/attn_norm$", "mid_block/attentions/0/group_norm"),
    (r"mid_block/attn/", "mid_block/attentions/0/"),
    (r"(attentions/\d+)/(norm\d|attn\d)", r"\1/transformer_blocks/0/\2"),
    (r"/ff_in$", "/transformer_blocks/0/ff/net/0/proj"),
    (r"/ff_out$", "/transformer_blocks/0/ff/net/2"),
    (r"/to_out$", "/to_out/0"),
    # 1x1 convolutions around the latent belong to the whole autoencoder
    (r"^(encoder|decoder)/((post_)?quant_conv)$", r"\2"),
    (r"^unet/", ""),
)

_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""What diffusers called the layers of the autoencoder's attention before version 0.17."""

Kind = Literal["vector", "matrix", "pointwise", "convolution"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor in both layouts.

    Attributes:
      name: path here, "unet/conv_in/conv/kernel".
      folder: "unet" or "vae".
      key: name there, "conv_in.weight".
      old_key: name there in old files, if it was another.
      shape: here.
      kind: "vector" is the same in both; "matrix" [in, out] here is [out, in] there; "pointwise"
        is a matrix that is stored there as a 1x1 convolution [out, in, 1, 1]; "convolution"
        [height, width, in, out] here is [out, in, height, width] there.
    """

    name: str
    folder: str
    key: str
    old_key: str | None
    shape: tuple[int, ...]
    kind: Kind

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape there."""
        if self.kind == "vector":
            return self.shape
        if self.kind == "convolution":
            height, width, inputs, outputs = self.shape
            return outputs, inputs, height, width
        inputs, outputs = self.shape
        return (outputs, inputs, 1, 1) if self.kind == "pointwise" else (outputs, inputs)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a stored tensor has the right shape; matrices may be 1x1 convolutions there."""
        if self.kind in ("matrix", "pointwise"):
            inputs, outputs = self.shape
            return shape in ((outputs, inputs), (outputs, inputs, 1, 1))
        return shape == self.stored_shape

    def from_stored(self, array: np.ndarray) -> np.ndarray:
        """The tensor as it is here, of one that `fits`; contiguous."""
        if self.kind == "vector":
            return array
        if self.kind == "convolution":
            return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        return np.ascontiguousarray(array.reshape(array.shape[:2]).T)

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """The tensor as it is there: the inverse of `from_stored`; contiguous."""
        if self.kind == "vector":
            return array
        if self.kind == "convolution":
            return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        return np.ascontiguousarray(array.T).reshape(self.stored_shape)


@functools.cache
def table(config: ModelConfig) -> tuple[Entry, ...]:
    """Every tensor of autoencoder and UNet but the context, in the order of our parameters.

    The model has to be one that diffusers can express; see `architecture.refuse`.
    """
    entries = []
    for name, shape in parameter_shapes(config).items():
        part = name.partition("/")[0]
        if part in FOLDERS and name != CONTEXT:
            key = key_of(name)
            kind = _kind(key, shape, config.unet.linear_projection)
            entries.append(Entry(name, FOLDERS[part], key, _old_key(name, key), shape, kind))
    keys = {(entry.folder, entry.key) for entry in entries}
    assert len(keys) == len(entries), "two parameters with one name in diffusers' layout"
    return tuple(entries)


def key_of(name: str) -> str:
    """diffusers' name of a parameter of ours, "unet/conv_in/conv/kernel" -> "conv_in.weight"."""
    module, _, leaf = name.rpartition("/")
    for pattern, replacement in _RULES:
        module = re.sub(pattern, replacement, module)
    return f"{module}/{_LEAVES[leaf]}".replace("/", ".")


def _old_key(name: str, key: str) -> str | None:
    if name.startswith("unet/") or ".attentions.0." not in key:
        return None
    for new, old in _OLD_NAMES.items():
        if f".{new}." in key:
            return key.replace(f".{new}.", f".{old}.")
    return None


def _kind(key: str, shape: tuple[int, ...], linear_projection: bool) -> Kind:
    if len(shape) == 1:
        return "vector"
    if len(shape) == 4:
        return "convolution"
    projection = key.endswith((".proj_in.weight", ".proj_out.weight"))
    return "pointwise" if projection and not linear_projection else "matrix"
