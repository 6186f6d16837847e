"""Shape of a model: what its weights depend on."""

from __future__ import annotations

import dataclasses
from typing import Literal

from rcodec_jax.config.checks import refuse_below, refuse_other_nodes, refuse_uneven_groups
from rcodec_jax.levels import MAX_CLASSES, NODE_COUNT


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """AutoencoderKL; patch * 2^(len(channels) - 1) must be 8.

    Attributes:
      channels: width at each resolution, the finest first.
      layers: residual blocks at each resolution (the decoder has one more).
      patch: side in pixels of the stem's patches, 1 for none.
      norm: "group" (Stable Diffusion) or "channel" (no statistics over space).
      groups: groups of a group normalisation.
      attention: attention over the whole picture in the middle.
      quant_conv: 1x1 convolutions on either side of the latent (Stable Diffusion).
    """

    channels: tuple[int, ...] = (48, 112)
    layers: int = 1
    patch: int = 4
    norm: Literal["group", "channel"] = "channel"
    groups: int = 32
    attention: bool = False
    quant_conv: bool = False

    def __post_init__(self) -> None:
        refuse_below(self, 1, "channels", "layers", "patch", "groups")
        if self.norm == "group":
            refuse_uneven_groups(self.channels, self.groups)
        if self.patch * 2 ** (len(self.channels) - 1) != 8:
            raise ValueError(
                "patch: an autoencoder reduces by 8: expected patch * 2^(len(channels) - 1) == 8, "
                f"got patch {self.patch} and {len(self.channels)} widths"
            )


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Denoiser.

    Attributes:
      channels: width at each resolution, the finest (an eighth of the picture's) first.
      layers: residual blocks at each resolution on the way down (one more on the way up).
      heads: attention heads at each resolution, 0 for none; empty for no attention at all.
      middle_heads: attention heads in the middle, 0 for none.
      linear_projection: how Stable Diffusion stores the projections in and out of transformers, as
        matrices (SD 2) or as 1x1 convolutions (SD 1); they compute the same.
      context_features, context_tokens: constant context of the cross-attention.
      time_features: width of the timestep rows.
      norm, groups: as in the autoencoder.
      scale_shift: timesteps scale and shift instead of being added.
      prediction: what the network predicts; "residual" is what it adds to the linear estimate that
        the entropy model's mean and sigma give.
      prior: the network also sees mean and log2 sigma of the entropy model.
      see_map: ablation; False tells the network one timestep for the whole picture, the middle of
        its range.
    """

    channels: tuple[int, ...] = (112, 144)
    layers: int = 1
    heads: tuple[int, ...] = ()
    middle_heads: int = 0
    linear_projection: bool = True
    context_features: int = 0
    context_tokens: int = 77
    time_features: int = 128
    norm: Literal["group", "channel"] = "channel"
    groups: int = 32
    scale_shift: bool = True
    prediction: Literal["epsilon", "v", "sample", "residual"] = "residual"
    prior: bool = True
    see_map: bool = True

    def __post_init__(self) -> None:
        refuse_below(self, 1, "channels", "layers", "context_tokens", "time_features", "groups")
        if self.prediction == "residual" and not self.prior:
            raise ValueError("prediction: residual needs a prior, got prior False")
        if self.heads and len(self.heads) != len(self.channels):
            raise ValueError(
                f"heads: expected one for each of {len(self.channels)} widths, got "
                f"{len(self.heads)}"
            )
        heads = (*(self.heads or [0] * len(self.channels)), self.middle_heads)
        attending: list[int] = []
        for width, count in zip((*self.channels, self.channels[-1]), heads, strict=True):
            if count < 0 or (count and width % count):
                raise ValueError(f"heads: expected a divisor of {width} channels or 0, got {count}")
            attending += [width] if count else []
        if attending:
            refuse_below(self, 1, "context_features")
        # Transformers always normalise over groups.
        refuse_uneven_groups(self.channels if self.norm == "group" else (*attending,), self.groups)


@dataclasses.dataclass(frozen=True)
class HyperConfig:
    """Hyperprior.

    Attributes:
      hyper_channels: channels of z.
      analysis: width of the hyper-analysis.
      synthesis: widths of the hyper-synthesis at strides 4, 2 and 1.
      classes: classes of nodes with static tables of their own for z; a divisor of the 1024 nodes,
        at most 256.
      see_node: ablation; False hides the picture's timestep from the entropy model (networks and
        tables of z), but not how cells differ in theirs.
      see_map: ablation; False hides how cells differ, but not the picture's timestep.
      neighbours: z is coded from coarse to fine, each element's table chosen by those around it.
      context: width of the network that sharpens the prior of half of the latent by the other
        half, which is coded first; 0 for none.
      centroids: integers are taken for the means of what an encoder that leaves out those not worth
        their bits rounds to them, not for linear estimates; trained with `LossConfig.trim`.
    """

    hyper_channels: int = 24
    analysis: int = 96
    synthesis: tuple[int, int, int] = (128, 96, 64)
    classes: int = 16
    see_node: bool = True
    see_map: bool = True
    neighbours: bool = False
    context: int = 0
    centroids: bool = False

    def __post_init__(self) -> None:
        refuse_below(self, 1, "hyper_channels", "analysis", "synthesis", "classes")
        refuse_below(self, 0, "context")
        if NODE_COUNT % self.classes or self.classes > MAX_CLASSES:
            raise ValueError(
                f"classes: expected a divisor of {NODE_COUNT}, at most {MAX_CLASSES}, got "
                f"{self.classes}"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A whole model.

    Attributes:
      latent_channels: C of the latent y, at an eighth of the picture's resolution.
      node_range: nodes the model is trained for, finest and coarsest; quality and rate control
        move within them.
      noise_schedule: what the timesteps mean, by diffusers' names (`diffusion.schedule`); frozen
        into the integer part, and so into its digest.
      steps: denoiser evaluations a decode makes by default.
      decoder_features: channels of the denoiser's last features that the decoder is given beside
        the clean latent, which says what a cell's values are but not how sure of them one can be.
      decoder_noise: the decoder is given the latent's dither, too: noise to make grain of that need
        not repeat, at no cost, as the dither is known to who decodes.
    """

    latent_channels: int = 32
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    unet: UNetConfig = UNetConfig()
    hyper: HyperConfig = HyperConfig()
    node_range: tuple[int, int] = (128, 768)
    noise_schedule: Literal["scaled_linear", "linear", "squaredcos_cap_v2"] = "scaled_linear"
    steps: int = 1
    decoder_features: int = 0
    decoder_noise: bool = False

    @property
    def hint_channels(self) -> int:
        """Channels of what the decoder is given beside the latent."""
        return self.decoder_features + self.latent_channels * self.decoder_noise

    def __post_init__(self) -> None:
        refuse_below(self, 1, "latent_channels", "steps")
        refuse_below(self, 0, "decoder_features")
        refuse_other_nodes("node_range", self.node_range)
        if self.hyper.centroids and self.unet.prediction != "residual":
            raise ValueError(
                f"hyper.centroids: expected unet.prediction residual, got {self.unet.prediction}"
            )
