"""UNet with level-wise spatial timestep conditioning and optional cross-attention.

With group normalisation, additive timesteps and transformers it is Stable Diffusion's
UNet2DConditionModel, so scalar-t weights load unchanged: a constant map is a scalar t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcodec_jax.nn.blocks import (
    Attention,
    Conv,
    Downsample,
    Head,
    Norm,
    NormKind,
    Remat,
    ResnetBlock,
    Upsample,
    rematerialised,
)
from rcodec_jax.nn.conditioning import Conditioning, LevelEmbedding, condition


class Transformer(nn.Module):
    """Self-attention, cross-attention and a gated MLP over the cells of one resolution.

    Attributes:
      heads: attention heads; a head has C / heads channels.
      groups: of the group normalisation at the entry.
      folded_tokens: of the cross-attention; see `Attention`.
    """

    heads: int
    groups: int = 32
    folded_tokens: int = 0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None) -> jax.Array:
        """x [B, h, w, C], context [B, M, D] (None where it is folded) -> [B, h, w, C]."""
        batch, height, width, channels = x.shape

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, name=name)

        def normalise(name: str, value: jax.Array) -> jax.Array:
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(value)

        def attend(name: str, folded: int = 0) -> Attention:
            size = channels // self.heads
            return Attention(
                self.heads, size, channels, folded_tokens=folded, dtype=self.dtype, name=name
            )

        h = Norm("group", self.groups, 1e-6, self.dtype, name="norm")(x)
        # A 1x1 convolution and a dense layer are one thing on [B, N, C]; only the stored shape of
        # SD 1 weights differs, and the importer sees to that.
        h = dense(channels, "proj_in")(h.reshape(batch, height * width, channels))
        h = h + attend("attn1")(normalise("norm1", h))
        h = h + attend("attn2", self.folded_tokens)(normalise("norm2", h), context)
        value, gate = jnp.split(dense(8 * channels, "ff_in")(normalise("norm3", h)), 2, axis=-1)
        h = h + dense(channels, "ff_out")(value * nn.gelu(gate, approximate=False))
        h = dense(channels, "proj_out")(h)
        return x + h.reshape(batch, height, width, channels)


class UNet(nn.Module):
    """Denoiser.

    Attributes:
      out_channels: channels of the latent.
      channels: width at each resolution, the finest first.
      layers: residual blocks on the way down at each resolution (one more on the way up).
      heads: attention heads at each resolution, 0 for none; empty for none at all.
      middle_heads: attention heads in the middle, 0 for none.
      context_features: channels of the (learned, constant) context; needed with attention.
      context_tokens: its length.
      time_features: channels of the timestep rows.
      norm, groups: normalisation.
      scale_shift: timesteps scale and shift (FiLM) instead of being added.
      decoder_features: channels for the decoder, behind those of the latent.
      folded: parameters come from `fold_context`.
    """

    out_channels: int
    channels: tuple[int, ...]
    layers: int
    heads: tuple[int, ...]
    middle_heads: int
    context_features: int
    context_tokens: int
    time_features: int
    norm: NormKind
    groups: int
    scale_shift: bool
    decoder_features: int = 0
    folded: bool = False
    dtype: jnp.dtype = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        levels_t: jax.Array,
        level_map: jax.Array,
        prior: jax.Array | None = None,
    ) -> jax.Array:
        """One evaluation.

        Args:
          x: noisy latent [B, h, w, C].
          levels_t: timesteps of the levels [B, L] in 0..999.
          level_map: integers [B, h, w] in 0..L-1.
          prior: what the decoder knows besides x, [B, h, w, P]: mean and log2 sigma of the
            entropy model. The files pay for it anyway, and where few bits are spent it says more
            of the latent than x does. None for weights that were trained without.

        Returns:
          [B, h, w, out_channels + decoder_features], float32: epsilon, v or x0 as the weights have
          it, and features.
        """
        depth = len(self.channels)
        embed = LevelEmbedding(
            self.channels[0], self.time_features, self.dtype, name="time_embedding"
        )
        cond = condition(embed(levels_t), level_map, depth, self.dtype)
        context = self._context(x.shape[0])
        if prior is not None:
            x = jnp.concatenate([x, prior], axis=-1)
        x = Conv(self.channels[0], dtype=self.dtype, name="conv_in")(x.astype(self.dtype))

        skips = [x]
        for i, features in enumerate(self.channels):
            for j in range(self.layers):
                x = self._block(x, f"down_blocks_{i}", j, features, cond, i, context)
                skips.append(x)
            if i + 1 < depth:
                name = f"down_blocks_{i}_downsample"
                x = Downsample(features, dtype=self.dtype, name=name)(x)
                skips.append(x)

        last = depth - 1
        x = self._block(x, "mid_block", 0, self.channels[-1], cond, last, context)
        x = self._resnet("mid_block_resnets_1", self.channels[-1])(x, cond, last)

        for i in reversed(range(depth)):
            name = f"up_blocks_{last - i}"
            for j in range(self.layers + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = self._block(x, name, j, self.channels[i], cond, i, context)
            if i > 0:
                size = (skips[-1].shape[1], skips[-1].shape[2])
                x = Upsample(self.channels[i], dtype=self.dtype, name=f"{name}_upsample")(x, size)
        # From zero: predicting v = 0 is the best linear estimate of a white latent.
        args = self.norm, self.groups, 1e-5
        out = Head(self.out_channels, *args, True, self.dtype, name="head")(x)
        if self.decoder_features:
            more = Head(self.decoder_features, *args, False, self.dtype, name="features")(x)
            out = jnp.concatenate([out, more], axis=-1)
        return out.astype(jnp.float32)

    def _resnet(self, name: str, features: int) -> Any:
        block = rematerialised(ResnetBlock, self.remat, static=(3,))
        return block(
            features, self.norm, self.groups, 1e-5, self.scale_shift, self.dtype, name=name
        )

    def _block(
        self,
        x: jax.Array,
        prefix: str,
        index: int,
        features: int,
        cond: Conditioning,
        depth: int,
        context: jax.Array | None,
    ) -> jax.Array:
        x = self._resnet(f"{prefix}_resnets_{index}", features)(x, cond, depth)
        heads = self.middle_heads
        if prefix != "mid_block":
            heads = self.heads[depth] if self.heads else 0
        if heads:
            name = f"{prefix}_attentions_{index}"
            folded = self.context_tokens if self.folded else 0
            block = rematerialised(Transformer, self.remat)
            x = block(heads, self.groups, folded, dtype=self.dtype, name=name)(x, context)
        return x

    def _context(self, batch: int) -> jax.Array | None:
        if self.folded or not any((*self.heads, self.middle_heads)):
            return None
        shape = (self.context_tokens, self.context_features)
        context = self.param("context", nn.initializers.normal(0.02), shape)
        return jnp.broadcast_to(context[None].astype(self.dtype), (batch, *shape))


def fold_context(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for a UNet with `folded` from those of one without, for inference.

    The context is constant, so what a cross-attention's keys and values project it to is as well:
    that is computed here once instead of in every evaluation, and takes the place of context and
    projections. Parameters without a context come back as they are. A pure function; float32.
    """
    if "context" not in params:
        return dict(params)
    context = jnp.asarray(params["context"], jnp.float32)  # [M, D]

    def project(dense: Mapping[str, Any]) -> jax.Array:
        kernel = jnp.asarray(dense["kernel"], jnp.float32)
        return jnp.matmul(context, kernel, precision=jax.lax.Precision.HIGHEST)

    def fold(tree: Mapping[str, Any]) -> dict[str, Any]:
        attn = tree["attn2"]
        kept = {name: attn[name] for name in ("to_q", "to_out")}
        folded = {"k": project(attn["to_k"]), "v": project(attn["to_v"])}
        return {**tree, "attn2": {**kept, **folded}}

    return {
        name: fold(tree) if "attn2" in tree else tree
        for name, tree in params.items()
        if name != "context"
    }
