"""A patch discriminator: is a picture's texture real, given what the codec decodes of it.

Isola et al., CVPR 2017; conditioned on the decoded picture as in HiFiC (Mentzer et al., NeurIPS
2020), so that it judges the detail that is added and not what the bits say.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcodec_jax.nn.blocks import Conv
from rcodec_jax.ops.patches import to_patches

_STEM = 2  # side of the patches that the first convolution sees as channels


class Discriminator(nn.Module):
    """Pictures to logits, each of which sees a patch of about 50 pixels.

    Attributes:
      channels: width at half, a quarter and an eighth of the resolution.
      dtype: of the computation.
    """

    channels: tuple[int, ...] = (48, 96, 128)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, picture: jax.Array, decoded: jax.Array) -> jax.Array:
        """Logits, above 0 for real.

        Args:
          picture: [B, H, W, 3] in -1..1, the original or one with made detail.
          decoded: [B, H, W, 3], the codec's picture without it.

        Returns:
          [B, H/8, W/8].
        """
        both = [to_patches(image, _STEM) for image in (picture, picture - decoded)]
        x = jnp.concatenate(both, axis=-1).astype(self.dtype)
        for i, features in enumerate(self.channels):
            x = Conv(features, stride=2 if i else 1, dtype=self.dtype, name=f"conv_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
        x = Conv(self.channels[-1], dtype=self.dtype, name="conv_middle")(x)
        x = nn.leaky_relu(x, 0.2)
        return Conv(1, dtype=self.dtype, name="conv_out")(x)[..., 0].astype(jnp.float32)
