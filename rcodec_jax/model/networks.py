"""A model's networks, built from its configuration, as pure functions of plain-dict parameters."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.config.model import ModelConfig
from rcodec_jax.diffusion.schedule import node_table
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE, MAX_LEVELS, seen_nodes
from rcodec_jax.nn.autoencoder import Decoder, Encoder
from rcodec_jax.nn.blocks import Remat
from rcodec_jax.nn.hyperprior import HyperAnalysis, HyperContext, HyperPrior, HyperSynthesis
from rcodec_jax.nn.unet import UNet
from rcodec_jax.ops.patches import truncation
from rcodec_jax.ops.spatial import occupancy_pyramid

Params = dict[str, Any]

PARTS = (
    "encoder",
    "decoder",
    "unet",
    "hyper_analysis",
    "hyper_synthesis",
    "hyper_prior",
    "hyper_context",
)
"""Keys of a model's parameters; the last is of models with a context network alone."""


def model_parts(config: ModelConfig) -> tuple[str, ...]:
    """The parts that a model has."""
    return PARTS if config.hyper.context else PARTS[:-1]


def tracked_ranges(config: ModelConfig) -> tuple[str, ...]:
    """Activations of the integer networks' twins whose largest magnitudes freezing needs."""
    names = [f"{kind}_{i}_out" for i in range(3) for kind in ("conv", "film")] + ["conv_3_out"]
    if config.hyper.context:
        names += [f"context_{layer}_out" for layer in ("conv_0", "film_0", "conv_1")]
    return tuple(names)


@dataclasses.dataclass(frozen=True)
class LevelInputs:
    """A level map as the networks want it.

    Attributes:
      level_map: integers [B, h, w].
      nodes: node of each level [B, L].
      node_map: node of each cell [B, h, w].
      occupancy: shares of the levels at strides 1, 2 and 4.
    """

    level_map: jax.Array
    nodes: jax.Array
    node_map: jax.Array
    occupancy: list[jax.Array]

    @classmethod
    def of(cls, level_map: jax.Array, nodes: jax.Array) -> LevelInputs:
        """From integers [B, h, w] and [B, L]."""
        level_map = level_map.astype(jnp.int32)
        nodes = nodes.astype(jnp.int32)
        node_map = nodes[jnp.arange(nodes.shape[0])[:, None, None], level_map]
        return cls(level_map, nodes, node_map, occupancy_pyramid(level_map, nodes.shape[1], 3))

    def lowest_node(self, stride: int) -> jax.Array:
        """Lowest node in every stride x stride block: [B, h/stride, w/stride]."""
        batch, height, width = self.node_map.shape
        blocks = self.node_map.reshape(batch, height // stride, stride, width // stride, stride)
        return blocks.min(axis=(2, 4))

    def ablated(self, *, see_node: bool, see_map: bool) -> LevelInputs:
        """The levels as the entropy model gets to see them, see `levels.seen_nodes`."""
        if see_node and see_map:
            return self
        nodes = seen_nodes(self.nodes, see_node=see_node, see_map=see_map)
        return LevelInputs.of(self.level_map, nodes)


_NOT_LAYERS = ("prediction", "prior", "linear_projection", "see_map")
"""Fields of `UNetConfig` that say how the network is used or stored, not what it is made of."""


class Networks:
    """The six networks of a model.

    Every method is a pure function of `params`, a dict with the keys of `PARTS`.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: jnp.dtype = jnp.float32,
        *,
        folded: bool = False,
        remat: Remat = "none",
    ) -> None:
        """Builds the modules; allocates nothing.

        Args:
          config: the model's shape.
          dtype: of the float networks' computation (the hyper-synthesis stays float32).
          folded: the UNet's parameters come from `nn.unet.fold_context`; for inference.
          remat: what autoencoder and UNet keep for a backward pass, see `nn.blocks.rematerialised`.
        """
        self.config = config
        self._given = config, jnp.dtype(dtype), folded, remat
        latent = config.latent_channels
        auto, unet, hyper = config.autoencoder, config.unet, config.hyper
        args: dict[str, Any] = {"latent_channels": latent, "dtype": dtype, "remat": remat}
        args |= vars(auto)
        self.encoder = Encoder(**args)
        self.decoder = Decoder(**args, hint_channels=config.hint_channels)
        args = {name: value for name, value in vars(unet).items() if name not in _NOT_LAYERS}
        args |= {"out_channels": latent, "decoder_features": config.decoder_features}
        self.unet = UNet(folded=folded, dtype=dtype, remat=remat, **args)
        self.hyper_analysis = HyperAnalysis(hyper.analysis, hyper.hyper_channels, dtype)
        start = None
        if auto.patch > 1:  # the latent starts as a block transform, whose sizes are known
            analysis, _ = truncation(CELL_PX, latent)
            start = tuple(float(x) for x in np.log2(analysis.max(axis=0)))
        self.hyper_synthesis = HyperSynthesis(hyper.synthesis, latent, start)
        self.hyper_prior = HyperPrior(hyper.hyper_channels, hyper.classes, hyper.neighbours)
        self.hyper_context = HyperContext(hyper.context, latent)

    # By value, so that JAX traces what networks do once for all that are built alike.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._given == other._given

    def __hash__(self) -> int:
        return hash(self._given)

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def init(self, key: jax.Array, parts: tuple[str, ...] | None = None) -> Params:
        """Random initial parameters of some parts, each the same whatever the others are.

        Under `jax.eval_shape` it only gives their shapes.
        """
        *first, last = PARTS  # the last came later, and the others' keys stay as they were
        keys = dict(zip(first, jax.random.split(key, len(first)), strict=True))
        keys[last] = jax.random.fold_in(key, len(first))
        latent, hyper = self.config.latent_channels, self.config.hyper.hyper_channels
        y = jnp.zeros((1, 8, 8, latent))
        z = jnp.zeros((1, 2, 2, hyper))
        levels = LevelInputs.of(
            jnp.zeros((1, 8, 8), jnp.int32), jnp.zeros((1, MAX_LEVELS), jnp.int32)
        )
        moments = jnp.zeros((1, 8, 8, 2 * latent))
        prior = moments if self.config.unet.prior else None
        inputs: dict[str, tuple[Any, ...]] = {
            "encoder": (jnp.zeros((1, 64, 64, 3)),),
            "decoder": (y, jnp.zeros((1, 8, 8, self.config.hint_channels))),
            "unet": (y, jnp.zeros((1, MAX_LEVELS)), levels.level_map, prior),
            "hyper_analysis": (y, levels.nodes, levels.level_map, levels.occupancy),
            "hyper_synthesis": (z, levels.nodes, levels.occupancy),
            "hyper_prior": (z, jnp.zeros((1, 2, 2), jnp.int32), z),
            "hyper_context": (moments, y, levels.nodes, levels.occupancy[0]),
        }
        return {
            part: getattr(self, part).init(keys[part], *inputs[part])["params"]
            for part in (model_parts(self.config) if parts is None else parts)
        }

    def encode(self, params: Params, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """image [B, H, W, 3] in -1..1 -> posterior mean and log-variance [B, H/8, W/8, C]."""
        out: Any = self.encoder.apply({"params": params["encoder"]}, image)
        return out

    def decode(self, params: Params, raw: jax.Array, hints: jax.Array | None = None) -> jax.Array:
        """Decodes.

        Args:
          params: the model's.
          raw: latent as the encoder gives it [B, h, w, C].
          hints: what `hints` gives; None to decode without.

        Returns:
          Pictures [B, 8h, 8w, 3], about -1..1.
        """
        out: Any = self.decoder.apply({"params": params["decoder"]}, raw, hints)
        return out

    def hints(self, features: jax.Array, dither: jax.Array) -> jax.Array:
        """What the decoder is given beside the latent.

        Args:
          features: of the denoiser's last evaluation, [B, h, w, decoder_features].
          dither: of the latent [B, h, w, C], in -1/2..1/2.

        Returns:
          float32 [B, h, w, hint_channels].
        """
        return jnp.concatenate([features, dither] if self.config.decoder_noise else [features], -1)

    def hyper_encode(self, params: Params, y: jax.Array, levels: LevelInputs) -> jax.Array:
        """Scaled latent [B, h, w, C] -> z before rounding [B, h/4, w/4, Z]."""
        seen = self._seen(levels)
        variables = {"params": params["hyper_analysis"]}
        given = y, seen.nodes, seen.level_map, seen.occupancy
        out: Any = self.hyper_analysis.apply(variables, *given)
        return out

    def hyper_decode(
        self, params: Params, z: jax.Array, levels: LevelInputs
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Rounded z -> mean, log2 sigma [B, h, w, C] and the activations' ranges."""
        seen = self._seen(levels)
        variables = {"params": params["hyper_synthesis"]}
        (mean, log2_sigma), sown = self.hyper_synthesis.apply(
            variables, z, seen.nodes, seen.occupancy, mutable=["ranges"]
        )
        return mean, log2_sigma, dict(sown["ranges"])

    def hyper_bits(
        self, params: Params, z: jax.Array, levels: LevelInputs, rounded: jax.Array
    ) -> jax.Array:
        """Bits of each element of z [B, h/4, w/4, Z], its neighbours known as `rounded`."""
        node = self._seen(levels).lowest_node(HYPER_STRIDE)
        out: Any = self.hyper_prior.apply({"params": params["hyper_prior"]}, z, node, rounded)
        return out

    def hyper_refine(
        self, params: Params, prior: jax.Array, value: jax.Array, levels: LevelInputs
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """What the latent's first half changes in the prior of its second half.

        Args:
          params: the model's.
          prior: mean and log2 sigma [B, h, w, 2C], as `hyper_decode` gives them.
          value: estimates of y - mean of the first half [B, h, w, C], 0 at the second.
          levels: the map.

        Returns:
          Differences of mean and log2 sigma [B, h, w, C] and the activations' ranges.
        """
        seen = self._seen(levels)
        given = prior, value, seen.nodes, seen.occupancy[0]
        (mean, log2_sigma), sown = self.hyper_context.apply(
            {"params": params["hyper_context"]}, *given, mutable=["ranges"]
        )
        return mean, log2_sigma, dict(sown["ranges"])

    def denoise(
        self,
        params: Params,
        x: jax.Array,
        levels_t: jax.Array,
        level_map: jax.Array,
        prior: jax.Array | None,
    ) -> jax.Array:
        """Raw network output for x [B, h, w, C] at the levels' timesteps [B, L].

        Of models with `decoder_features` these follow the C channels of the latent.
        """
        variables = {"params": params["unet"]}
        prior = prior if self.config.unet.prior else None
        if not self.config.unet.see_map:  # levels ascend
            middle = (levels_t[:, :1] + levels_t[:, -1:]) / 2
            levels_t = jnp.broadcast_to(middle, levels_t.shape)
        out: Any = self.unet.apply(variables, x, levels_t, level_map, prior)
        return out

    def _seen(self, levels: LevelInputs) -> LevelInputs:
        hyper = self.config.hyper
        return levels.ablated(see_node=hyper.see_node, see_map=hyper.see_map)


def node_values(config: ModelConfig) -> dict[str, jax.Array]:
    """The model's node table as float32 arrays [1024]: t, alpha_bar, delta, log2_scale."""
    table = node_table(config.noise_schedule)._asdict()
    return {k: jnp.asarray(v, jnp.float32) for k, v in table.items()}


@functools.cache
def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of a model by its path ("unet/conv_in/conv/kernel")."""
    shapes = jax.eval_shape(Networks(config).init, jax.random.key(0))
    leaves = jax.tree_util.tree_flatten_with_path(shapes)[0]
    return {"/".join(key.key for key in path): tuple(leaf.shape) for path, leaf in leaves}


def count_parameters(shapes: Params) -> dict[str, int]:
    """Parameters of each part of a model, from arrays or their shapes."""
    return {
        part: sum(int(leaf.size) for leaf in jax.tree.leaves(tree)) for part, tree in shapes.items()
    }
