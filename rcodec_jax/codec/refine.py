"""Refinement at encoding: the latents of one picture, fitted to it by gradient descent.

An encoder network is a guess, the same for all pictures, of latents that cost little and decode
well. Here the latents of the picture at hand go on from that guess, down the gradient of the rate
and the distortion that its file will have (Campos et al., CVPR workshops 2019; Yang et al., NeurIPS
2020, "Improving inference for neural image compression"). Files stay ordinary files; decoders know
nothing of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.codec.tiling import coarser, extend, finer, tiles
from rcodec_jax.codec.tracing import Program
from rcodec_jax.diffusion.forward import uniform_noise
from rcodec_jax.entropy import dither_indices, dither_values
from rcodec_jax.errors import BundleError, UsageError
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.descent import (
    RATE_WEIGHTS,
    STEPS,
    STRUCTURE_WEIGHTS,
    Schedule,
    State,
    adam,
    schedule,
)
from rcodec_jax.ops.pixels import to_signed
from rcodec_jax.progress import Progress, no_progress
from rcodec_jax.regions.levelmap import LevelMap

Tune = Literal["mse", "balanced", "perceptual"]
TUNES: tuple[Tune, ...] = get_args(Tune)

DEFAULT_TUNE: Tune = "balanced"
DEFAULT_EFFORT = 3

TILE = 128
"""Pictures with a side of more cells are refined in tiles: memory does not grow with them."""

HALO = 16
"""Cells of context on either side of a tile's core, a multiple of HYPER_STRIDE."""

_Z_MAX = 32767
_SEED = 0


def check_effort(effort: int | None, tune: str) -> None:
    """Raises UsageError unless effort is None or a whole number in 1..9, and the tune known."""
    whole = isinstance(effort, int | np.integer) and not isinstance(effort, bool)
    if effort is not None and not (whole and 1 <= effort <= len(STEPS)):
        raise UsageError(f"expected an effort in 1..{len(STEPS)}, got {effort!r}")
    if tune not in TUNES:
        raise UsageError(f"expected tune {', '.join(TUNES[:-1])} or {TUNES[-1]}, got {tune!r}")


class Picture(NamedTuple):
    """What descent is given, of one tile.

    Attributes:
      pixels: uint8 [1, 8h, 8w, 3].
      level_map: integers [1, h, w].
      nodes: node of each level [1, 16].
      size: height and width of the picture's own part in pixels, int32 [2], counted from the tile's
        first; what lies beyond is its extension.
      dither: of the latents, in -1/2..1/2 [1, h, w, C].
    """

    pixels: jax.Array
    level_map: jax.Array
    nodes: jax.Array
    size: jax.Array
    dither: jax.Array


class Refiner:
    """Refines latents with one model; allocates and compiles when first used.

    Args:
      bundle: the model.
      tile, halo: in cells, multiples of 16 and of 4; see `tiling.spans`.
    """

    def __init__(self, bundle: Bundle, *, tile: int = TILE, halo: int = HALO) -> None:
        self._bundle = bundle
        self._tile, self._halo = tile, halo
        self._steps: dict[bool, Callable[..., tuple[State, jax.Array]]] = {}

    def lacks(self) -> str | None:
        """Why this model cannot refine; None if it can."""
        try:
            _ = self._params
        except BundleError as error:
            return str(error)
        return None

    def __call__(
        self,
        image: np.ndarray,
        y: np.ndarray,
        z: np.ndarray,
        levels: LevelMap,
        *,
        steps: int,
        tune: str = DEFAULT_TUNE,
        progress: Progress = no_progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Latents that make a better file at the same levels.

        Args:
          image: uint8 [H, W, 3].
          y: scaled latent of a bucket [h', w', C].
          z: hyper-latents int32 [ceil(h/4), ceil(w/4), Z] of the picture's h x w cells.
          levels: the picture's.
          steps: of gradient descent.
          tune: one of TUNES.
          progress: called after every step of every tile.

        Returns:
          (y, z) of the same shapes and types.

        Raises:
          BundleError: the model lacks what refinement needs.
        """
        if not steps:
            return y, z
        cells = y.shape[:2]
        z_full = extend(z.astype(np.float32), *(side // HYPER_STRIDE for side in cells))
        pixels = extend(image, *(side * CELL_PX for side in cells))
        level_map = extend(levels.level_map, *cells)
        height, width = levels.level_map.shape
        dither = extend(dither_values(dither_indices(height, width, y.shape[2])), *cells)
        y_out, z_out = y.copy(), z_full.copy()
        # All of one size: to compile another takes longer than what it would save.
        parts = tiles(cells, (self._tile, self._tile), self._halo)
        total = steps * len(parts)
        for number, (whole, core, own) in enumerate(parts):
            corner = np.array([side.start for side in whole])
            picture = Picture(
                jnp.asarray(pixels[finer(whole, CELL_PX)][None]),
                jnp.asarray(level_map[whole][None].astype(np.int32)),
                jnp.asarray(levels.padded_nodes[None]),
                jnp.asarray((np.array(image.shape[:2]) - corner * CELL_PX).astype(np.int32)),
                jnp.asarray(dither[whole][None], jnp.float32),
            )

            def tell(step: int, before: int = number * steps) -> None:
                progress(before + step, total, "refining")

            coarse = z_full[coarser(whole, HYPER_STRIDE)]
            found = self._descend(picture, y[whole], coarse, schedule(steps), tune, tell)
            for out, new, stride in zip((y_out, z_out), found, (1, HYPER_STRIDE), strict=True):
                out[coarser(core, stride)] = new[coarser(own, stride)]
        z_out = np.floor(z_out[: z.shape[0], : z.shape[1]] + 0.5)
        return y_out, np.clip(z_out, -_Z_MAX, _Z_MAX).astype(z.dtype)

    def _descend(
        self,
        picture: Picture,
        y: np.ndarray,
        z: np.ndarray,
        plan: Schedule,
        tune: str,
        tell: Callable[[int], None],
    ) -> tuple[np.ndarray, np.ndarray]:
        values = (jnp.array(y[None]), jnp.array(z[None]))  # copies: steps overwrite them
        zeros = [tuple(jnp.array(np.zeros(a.shape, a.dtype)) for a in values) for _ in range(2)]
        state = State(values, *zeros)
        structure, bits = STRUCTURE_WEIGHTS[tune], RATE_WEIGHTS[tune]
        run = self._step(structure > 0)

        def step(state: State, i: int) -> tuple[State, float]:
            scalars = [i, plan.rate(i), plan.noise, structure, plan.hyper, bits]
            state, objective = run(self._params, state, picture, np.array(scalars, np.float32))
            return state, float(objective)

        first = 0.0
        for i in range(plan.steps):
            state, objective = step(state, i)
            first = objective if i == 0 else first
            tell(i + 1)
        y_new, z_new = (np.asarray(a)[0] for a in state.values)
        if plan.hyper:
            # Whole numbers are what the file will have; under the first step's noise they must do
            # better than what there was.
            z_new = np.floor(z_new + 0.5)
            values = (state.values[0], jnp.asarray(z_new[None]))
            if step(state._replace(values=values), 0)[1] >= first:
                return y, z
        return y_new, z_new

    @functools.cached_property
    def _params(self) -> dict[str, Any]:
        from rcodec_jax.model.unfreezing import unfreeze
        from rcodec_jax.nn.unet import fold_context

        unfrozen, _ = unfreeze(self._bundle.folder, self._bundle)
        floats = {
            "decoder": self._bundle.params["decoder"],
            "unet": fold_context(self._bundle.params["unet"]),
        }
        # Converted here and not by JAX, which would compile that for each shape.
        host = jax.tree.map(lambda a: np.asarray(a, np.float32), floats | unfrozen)
        params: dict[str, Any] = jax.device_put(host)
        return params

    @functools.cached_property
    def _networks(self) -> Any:
        # Late, like all that only tracing needs: see `tracing`.
        from rcodec_jax.model.networks import Networks

        return Networks(self._bundle.config, folded=True)

    def _step(self, structural: bool) -> Callable[..., tuple[State, jax.Array]]:
        """One compiled step: (params, state, picture, scalars) -> state, objective before it.

        Args:
          structural: whether the structural distance counts; it takes time where it does.

        The scalars are float32 [6]: step, learning rate, share of noise, weight of the structure,
        share of the learning rate for hyper-latents, weight of the rate.
        """
        if structural not in self._steps:
            bundle = self._bundle
            shift, scale = (a.reshape(1, 1, 1, -1) for a in (bundle.shift, bundle.scale))

            def unscale(y: jax.Array) -> jax.Array:
                return y / scale + shift

            def step(
                params: dict[str, Any], state: State, picture: Picture, scalars: jax.Array
            ) -> tuple[State, jax.Array]:
                from rcodec_jax.model.networks import LevelInputs, node_values
                from rcodec_jax.model.objective import objective

                number, rate, noise, structure, hyper, bits = scalars
                levels = LevelInputs.of(picture.level_map, picture.nodes)
                table = node_values(bundle.config)
                quantiser_step = jnp.exp2(-table["log2_scale"][levels.node_map])[..., None]
                key = jax.random.fold_in(jax.random.key(_SEED), number.astype(jnp.int32))
                own = [-(-picture.size // s) for s in (CELL_PX, CELL_PX * HYPER_STRIDE)]
                y, z = (_mirror(a, n) for a, n in zip(state.values, own, strict=True))
                values, masks = (y, z), (_inside(y, own[0]), _inside(z, own[1]))

                original = to_signed(picture.pixels)
                inside = _inside(original, picture.size)
                errors = (
                    noise * uniform_noise(key, y.shape),
                    uniform_noise(jax.random.fold_in(key, 1), z.shape),
                )

                def per_pixel(values: tuple[jax.Array, jax.Array]) -> jax.Array:
                    total = objective(
                        self._networks, params, values, levels, original, unscale,
                        errors=errors, dither=picture.dither, bits=bits,
                        structure=structure if structural else None, masks=masks, inside=inside,
                    )  # fmt: skip
                    return total / jnp.sum(inside)

                before, gradients = jax.value_and_grad(per_pixel)(values)
                gradients = (gradients[0] * masks[0], gradients[1] * masks[1])
                return adam(
                    State(values, *state[1:]),
                    gradients,
                    number,
                    (rate * quantiser_step, rate * hyper),
                    (jnp.mean(masks[0]), jnp.mean(masks[1])),
                ), before

            constants = [a.tolist() for a in (bundle.shift, bundle.scale)]
            key = f"refine {structural} {bundle.config} {constants}"
            result = State(*[(0, 0)] * 3), 0  # type: ignore[arg-type]
            self._steps[structural] = Program(step, key, result=result, donated=(1,))
        return self._steps[structural]


def _inside(x: jax.Array, own: jax.Array) -> jax.Array:
    """1.0 where [B, h, w, C] is the picture's own, 0.0 beyond: [1, h, w, 1]."""
    rows, columns = (jnp.arange(x.shape[i + 1]) < own[i] for i in range(2))
    return (rows[:, None] & columns[None, :]).astype(jnp.float32)[None, :, :, None]


def _mirror(x: jax.Array, own: jax.Array) -> jax.Array:
    """[B, h, w, C] with what lies beyond the picture's own part mirrored from it anew."""
    for i in range(2):
        at = jnp.arange(x.shape[i + 1]) % (2 * own[i])
        x = jnp.take(x, jnp.minimum(at, 2 * own[i] - 1 - at), axis=i + 1, mode="clip")
    return x
