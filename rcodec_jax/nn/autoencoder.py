"""AutoencoderKL: pictures to latents at an eighth of the resolution, and back.

The Stable Diffusion architecture (Rombach et al. 2022). `patch` adds what a small model wants: a
patchified stem, so that most of its work happens at low resolution, and beside the network a linear
path. That starts as a block transform code of the largest coefficients, and the network, from zero,
as a correction of it: training begins where JPEG stands instead of at noise.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.levels import CELL_PX
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
from rcodec_jax.ops.patches import from_patches, to_patches, truncation


class _Middle(nn.Module):
    """Two residual blocks, with attention over the whole picture between them if asked for."""

    features: int
    norm: NormKind
    groups: int
    attention: bool
    dtype: jnp.dtype
    remat: Remat

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        block = rematerialised(ResnetBlock, self.remat)
        args = (self.features, self.norm, self.groups)
        x = block(*args, dtype=self.dtype, name="resnets_0")(x)
        if self.attention:
            batch, height, width, channels = x.shape
            h = Norm(self.norm, self.groups, dtype=self.dtype, name="attn_norm")(x)
            h = Attention(1, channels, channels, bias=True, dtype=self.dtype, name="attn")(
                h.reshape(batch, height * width, channels)
            )
            x = x + h.reshape(batch, height, width, channels)
        return block(*args, dtype=self.dtype, name="resnets_1")(x)


class Encoder(nn.Module):
    """Picture -> moments of the posterior.

    Attributes:
      channels: width at each resolution, the finest first; patch * 2^(len - 1) must be 8.
      layers: residual blocks at each resolution.
      latent_channels: C of the latent.
      patch: side of the stem's patches (1: none).
      norm, groups: normalisation.
      attention: whether the middle attends over the whole picture.
      quant_conv: Stable Diffusion's 1x1 convolution on the moments.
    """

    channels: tuple[int, ...]
    layers: int
    latent_channels: int
    patch: int
    norm: NormKind
    groups: int
    attention: bool
    quant_conv: bool
    dtype: jnp.dtype = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Picture [B, H, W, 3] in -1..1, sides multiples of 8 -> mean, log-variance [B,h,w,C]."""
        x = to_patches(image, self.patch) if self.patch > 1 else image
        x = Conv(self.channels[0], dtype=self.dtype, name="conv_in")(x.astype(self.dtype))
        block = rematerialised(ResnetBlock, self.remat)
        for i, features in enumerate(self.channels):
            for j in range(self.layers):
                name = f"down_blocks_{i}_resnets_{j}"
                x = block(features, self.norm, self.groups, dtype=self.dtype, name=name)(x)
            if i + 1 < len(self.channels):
                name = f"down_blocks_{i}_downsample"
                x = Downsample(features, asymmetric=True, dtype=self.dtype, name=name)(x)
        x = _Middle(
            self.channels[-1],
            self.norm,
            self.groups,
            self.attention,
            self.dtype,
            self.remat,
            name="mid_block",
        )(x)
        x = Head(
            2 * self.latent_channels,
            self.norm,
            self.groups,
            zero_init=self.patch > 1,
            dtype=self.dtype,
            name="head",
        )(x)
        if self.quant_conv:
            x = Conv(2 * self.latent_channels, kernel=1, dtype=self.dtype, name="quant_conv")(x)
        mean, log_variance = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        if self.patch > 1:
            analysis, _ = truncation(CELL_PX, self.latent_channels)
            linear = nn.Dense(
                self.latent_channels, use_bias=False, kernel_init=_constant(analysis), name="linear"
            )
            mean = mean + linear(to_patches(image, CELL_PX))
        return mean, jnp.clip(log_variance, -30.0, 20.0)


class Decoder(nn.Module):
    """Latent -> picture; attributes as in `Encoder`, one more block at each resolution.

    Attributes:
      hint_channels: of what is given beside the latent, 0 for nothing.
    """

    channels: tuple[int, ...]
    layers: int
    latent_channels: int
    patch: int
    norm: NormKind
    groups: int
    attention: bool
    quant_conv: bool
    hint_channels: int = 0
    dtype: jnp.dtype = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, latent: jax.Array, hints: jax.Array | None = None) -> jax.Array:
        """Decodes.

        Args:
          latent: [B, h, w, C], not normalised.
          hints: [B, h, w, hint_channels]; None for zeros.

        Returns:
          [B, 8h, 8w, 3], about -1..1, not clipped.
        """
        x = latent.astype(self.dtype)
        if self.quant_conv:
            x = Conv(self.latent_channels, kernel=1, dtype=self.dtype, name="post_quant_conv")(x)
        x = Conv(self.channels[-1], dtype=self.dtype, name="conv_in")(x)
        if self.hint_channels and hints is not None:
            width = self.channels[-1]
            hint = Conv(width, kernel=1, zero_init=True, dtype=self.dtype, name="hints_in")
            x = x + hint(hints.astype(self.dtype))
        x = _Middle(
            self.channels[-1],
            self.norm,
            self.groups,
            self.attention,
            self.dtype,
            self.remat,
            name="mid_block",
        )(x)
        block = rematerialised(ResnetBlock, self.remat)
        for i, features in enumerate(reversed(self.channels)):
            for j in range(self.layers + 1):
                name = f"up_blocks_{i}_resnets_{j}"
                x = block(features, self.norm, self.groups, dtype=self.dtype, name=name)(x)
            if i + 1 < len(self.channels):
                x = Upsample(features, dtype=self.dtype, name=f"up_blocks_{i}_upsample")(x)
        x = Head(
            3 * self.patch * self.patch,
            self.norm,
            self.groups,
            zero_init=self.patch > 1,
            dtype=self.dtype,
            name="head",
        )(x).astype(jnp.float32)
        if self.patch == 1:
            return x
        _, synthesis = truncation(CELL_PX, self.latent_channels)
        linear = nn.Dense(
            3 * CELL_PX**2, use_bias=False, kernel_init=_constant(synthesis), name="linear"
        )
        return from_patches(x, self.patch) + from_patches(linear(latent), CELL_PX)


def _constant(value: np.ndarray) -> Callable[..., jax.Array]:
    """An initializer that always gives the same array."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        del key
        assert shape == value.shape, (shape, value.shape)
        return jnp.asarray(value, dtype)

    return init
