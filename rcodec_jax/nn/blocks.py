"""Blocks shared by autoencoder, UNet and hyperprior.

Shapes: B batch, h w cells, C channels. Submodule names follow the diffusers layout where a
counterpart exists, so that importing weights is a renaming.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcodec_jax.nn.conditioning import Conditioning, LevelProjection
from rcodec_jax.ops.attention import attention
from rcodec_jax.ops.convolution import convolve
from rcodec_jax.ops.normalise import group_norm
from rcodec_jax.ops.spatial import upsample_nearest

NormKind = Literal["group", "channel"]
Remat = Literal["none", "dots", "full"]
Dtype = jnp.dtype


def rematerialised(block: type[nn.Module], remat: Remat, static: tuple[int, ...] = ()) -> Any:
    """A block that keeps less for the backward pass and computes the rest again (Chen et al. 2016).

    Args:
      block: the module.
      remat: what it keeps: everything ("none"), besides its inputs what convolutions and products
        with weights give ("dots"; attention's weights, which are large, are not kept), or its
        inputs only ("full").
      static: positions of arguments that are no arrays; `self` is 0.
    """
    if remat == "none":
        return block
    policy = _is_product_with_weights if remat == "dots" else None
    return nn.remat(block, policy=policy, static_argnums=static)


def _is_product_with_weights(primitive: Any, *args: Any, **params: Any) -> bool:
    if primitive is jax.lax.conv_general_dilated_p:
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)


class Conv(nn.Module):
    """Convolution with symmetric zero padding.

    Attributes:
      features: output channels.
      kernel: side of the (odd) kernel.
      stride: 1 or 2.
      zero_init: start from zero, for the last convolution of a residual branch.
      dtype: dtype of the computation; parameters stay float32.
      bias: what the bias starts from, by output channel; None for zero.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    zero_init: bool = False
    dtype: Dtype = jnp.float32
    bias: tuple[float, ...] | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = nn.initializers.zeros
        if self.bias is not None:
            bias = nn.initializers.constant(jnp.asarray(self.bias))
        init = nn.initializers.zeros if self.zero_init else nn.initializers.lecun_normal()
        pad = self.kernel // 2
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=((pad, pad), (pad, pad)),
            kernel_init=init,
            bias_init=bias,
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="conv",
        )(x)


class GroupNorm(nn.Module):
    """Group normalisation with a gain and an offset of each channel; see `ops.normalise`."""

    groups: int
    epsilon: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] -> the same shape."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        out = group_norm(x, scale, bias, groups=self.groups, epsilon=self.epsilon)
        return out.astype(self.dtype)


class Norm(nn.Module):
    """Normalisation: over groups of channels and space, or over channels of each cell alone.

    "channel" divides by sqrt(1 + mean square over channels). It has no statistics over space, so a
    tile with a halo gives what the whole picture gives; and the 1 keeps amplitudes apart, which a
    scale-free norm of a single cell would lose: brightness and contrast (the argument for GDN,
    Balle et al. 2016). "group" is what Stable Diffusion weights need.
    """

    kind: NormKind = "channel"
    groups: int = 32
    epsilon: float = 1e-6
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "group":
            return GroupNorm(self.groups, self.epsilon, self.dtype, name="norm")(x)
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        power = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
        scaled = x * jax.lax.rsqrt(power + 1.0).astype(x.dtype)
        shape = (1,) * (x.ndim - 1) + (channels,)
        scale, bias = scale.reshape(shape), bias.reshape(shape)
        return (scaled * scale.astype(x.dtype) + bias.astype(x.dtype)).astype(self.dtype)


class ResnetBlock(nn.Module):
    """norm, SiLU, conv, (timestep), norm, SiLU, conv, plus the shortcut.

    Attributes:
      features: output channels.
      norm: kind of normalisation.
      groups: groups of a group normalisation.
      epsilon: of the normalisation.
      scale_shift: the timestep scales and shifts the second normalisation (FiLM); otherwise it
        is added before it, as in Stable Diffusion.
    """

    features: int
    norm: NormKind = "channel"
    groups: int = 32
    epsilon: float = 1e-6
    scale_shift: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, conditioning: Conditioning | None = None, depth: int = 0
    ) -> jax.Array:
        """x [B, h, w, C] -> [B, h, w, features]; `depth` is the occupancy level of h, w."""

        def normalise(name: str, value: jax.Array) -> jax.Array:
            return Norm(self.norm, self.groups, self.epsilon, self.dtype, name=name)(value)

        h = nn.silu(normalise("norm1", x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        shift: jax.Array | float = 0.0
        scale: jax.Array | float = 0.0
        if conditioning is not None:
            width = self.features * (2 if self.scale_shift else 1)
            rows = LevelProjection(width, dtype=self.dtype, name="time_emb_proj")(
                conditioning, depth
            )
            if self.scale_shift:
                scale, shift = jnp.split(rows, 2, axis=-1)
            else:
                h = h + rows
        h = normalise("norm2", h)
        h = nn.silu(h * (1.0 + scale) + shift)
        h = Conv(self.features, zero_init=True, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel=1, dtype=self.dtype, name="conv_shortcut")(x)
        return x + h


class Head(nn.Module):
    """norm, SiLU and the last convolution, from zero if asked for."""

    features: int
    norm: NormKind = "channel"
    groups: int = 32
    epsilon: float = 1e-6
    zero_init: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] -> [B, h, w, features]."""
        norm = Norm(self.norm, self.groups, self.epsilon, self.dtype, name="conv_norm_out")
        out = Conv(self.features, zero_init=self.zero_init, dtype=self.dtype, name="conv_out")
        return out(nn.silu(norm(x)))


class Downsample(nn.Module):
    """Convolution of stride 2; `asymmetric` pads right and below only (Stable Diffusion's VAE)."""

    features: int
    asymmetric: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] -> [B, ceil(h/2), ceil(w/2), features], floor if `asymmetric`."""
        pad = (0, 1) if self.asymmetric else (1, 1)
        conv = nn.Conv(
            self.features, (3, 3), strides=2, padding=(pad, pad), dtype=self.dtype, name="conv"
        )
        return conv(x)


class Upsample(nn.Module):
    """Nearest neighbour to the given size, then a convolution."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
        """[B, h, w, C] -> [B, 2h, 2w, features], cropped to `size` where that was odd."""
        x = upsample_nearest(x, 2)
        if size is not None:
            x = x[:, : size[0], : size[1]]
        return Conv(self.features, dtype=self.dtype, name="conv")(x)


class Attention(nn.Module):
    """Multi-head attention over cells or onto a context; see `ops.attention`.

    Attributes:
      heads: number of heads.
      head_dim: channels of a head.
      features: output channels.
      bias: whether query, key and value have a bias.
      folded_tokens: length of a constant context whose keys and values stand among the parameters
        as "k" and "v" [M, heads * head_dim] (`unet.fold_context`); 0 for what the call says.
    """

    heads: int
    head_dim: int
    features: int
    bias: bool = False
    folded_tokens: int = 0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """x [B, N, C], context [B, M, D] (x itself if None) -> [B, N, features]."""
        width = self.heads * self.head_dim

        def split(value: jax.Array) -> jax.Array:
            return value.reshape(*value.shape[:2], self.heads, self.head_dim)

        def project(name: str, value: jax.Array) -> jax.Array:
            return split(nn.Dense(width, use_bias=self.bias, dtype=self.dtype, name=name)(value))

        def constant(name: str) -> jax.Array:
            shape = (self.folded_tokens, width)
            value = self.param(name, nn.initializers.zeros, shape).astype(self.dtype)
            return split(jnp.broadcast_to(value[None], (x.shape[0], *shape)))

        q = project("to_q", x)
        if self.folded_tokens:
            k, v = constant("k"), constant("v")
        else:
            context = x if context is None else context
            k, v = project("to_k", context), project("to_v", context)
        out = attention(q, k, v)
        out = out.reshape(*x.shape[:2], width)
        return nn.Dense(self.features, dtype=self.dtype, name="to_out")(out)
