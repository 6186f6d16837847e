"""The float networks of a bundle as compiled programs on host arrays.

One program a network and bucket; a batch of one, since pictures differ in size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcodec_jax.codec.tiling import HALO, TILE, bucket, extend, map_tiles
from rcodec_jax.codec.tracing import Program
from rcodec_jax.diffusion.sampler import Denoise, ddim
from rcodec_jax.diffusion.schedule import Trajectory, node_table
from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.bundle import REALISM, Bundle
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import LevelInputs, Networks
from rcodec_jax.nn.hyperprior import HYPER_STRIDE
from rcodec_jax.nn.unet import fold_context
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.ops.rounding import round_half_up
from rcodec_jax.regions.levelmap import LevelMap


class Programs:
    """Compiled float networks.

    Args:
      bundle: the model.
      dtype: of parameters and computation, float32 or bfloat16. Pictures differ a little with it,
        the symbols of a file never.
      tile, halo: pictures with a side beyond `tile` cells go through in tiles; see `tiling`. Of
        networks that see no further than the halo they give what the whole would; those with
        statistics or attention over the whole picture (Stable Diffusion's) see a tile instead, and
        their tiles fade into one another.
    """

    def __init__(
        self, bundle: Bundle, *, dtype: str = "float32", tile: int = TILE, halo: int = HALO
    ) -> None:
        self._config = bundle.config
        self._networks = Networks(bundle.config, jnp.dtype(dtype), folded=True)
        self._host = bundle.params
        self._device: dict[str, Any] = {}
        self._dtype = jnp.dtype(dtype)
        self._shift = bundle.shift.reshape(1, 1, -1)
        self._scale = bundle.scale.reshape(1, 1, -1)
        self._tile, self._halo = tile, halo
        auto, unet = bundle.config.autoencoder, bundle.config.unet
        attends = auto.attention or any((*unet.heads, unet.middle_heads))
        self._blend = attends or "group" in (auto.norm, unet.norm)

    def _params(self, part: str) -> dict[str, Any]:
        """Parameters of one network on the device: encoding never needs the denoiser's."""
        if part not in self._device:
            host = self._host[part]
            host = fold_context(host) if part == "unet" else host
            self._device[part] = jax.tree.map(lambda a: jnp.asarray(a, self._dtype), host)
        return {part: self._device[part]}

    def _decoder(self, realism: float) -> dict[str, Any]:
        """Parameters of the decoder between its two ends."""
        fidelity = self._params("decoder")
        if realism == 0:
            return fidelity
        ends = fidelity["decoder"], self._params(REALISM)[REALISM]
        if realism == 1:
            return {"decoder": ends[1]}
        return {"decoder": jax.tree.map(lambda a, b: a + realism * (b - a), *ends)}

    def latent(self, pixels: np.ndarray) -> np.ndarray:
        """Picture uint8 [H, W, 3] -> scaled latent y float32 [h, w, C] of its bucket.

        Rows and columns past ceil(H/8), ceil(W/8) belong to the mirrored extension.
        """
        height, width = (bucket(-(-side // CELL_PX)) for side in pixels.shape[:2])
        pixels = extend(pixels, height * CELL_PX, width * CELL_PX)

        def run(window: np.ndarray) -> np.ndarray:
            return np.asarray(self._encode(self._params("encoder"), window[None])[0])

        raw = self._tiled(run, [pixels], (height, width))
        return (raw - self._shift) * self._scale

    def hyper(self, y: np.ndarray, levels: LevelMap) -> np.ndarray:
        """Scaled latent of a bucket [h', w', C] and the picture's levels -> z int32 [hz, wz, Z]."""
        height, width = levels.level_map.shape
        level_map = extend(levels.level_map, *y.shape[:2])
        z = self._hyper(
            self._params("hyper_analysis"), y[None], levels.padded_nodes[None], level_map[None]
        )
        return np.asarray(z[0, : -(-height // HYPER_STRIDE), : -(-width // HYPER_STRIDE)])

    def pixels(
        self,
        x: np.ndarray,
        prior: np.ndarray,
        levels: LevelMap,
        size: tuple[int, int],
        *,
        steps: int,
        kind: Trajectory,
        realism: float = 0.0,
    ) -> np.ndarray:
        """Denoises and decodes.

        Args:
          x: dequantised latent float32 [h, w, C].
          prior: mean and log2 sigma of the entropy model, float32 [h, w, 2C].
          levels: the picture's level map [h, w].
          size: (height, width) of the picture in pixels.
          steps: denoiser evaluations.
          kind: how timesteps fall.
          realism: 0..1, from the decoder of least error to that of real detail, if there is one.

        Returns:
          uint8 [H, W, 3].
        """
        cells = (bucket(x.shape[0]), bucket(x.shape[1]))
        x, prior, level_map = (extend(a, *cells) for a in (x, prior, levels.level_map))
        levels_t = node_table().t[levels.padded_nodes[None]]
        clean = ddim(
            self._denoise_in_tiles(prior, level_map, cells),
            jnp.asarray(x[None]),
            jnp.asarray(level_map[None].astype(np.int32)),
            levels_t,
            steps=steps,
            prediction=self._config.unet.prediction,
            kind=kind,
            prior=jnp.asarray(prior[None]),
        )
        raw = np.asarray(clean[0]) / self._scale + self._shift

        params = self._decoder(realism)

        def run(window: np.ndarray) -> np.ndarray:
            return np.asarray(self._decode(params, window[None])[0])

        pixels = self._tiled(run, [raw], cells)
        return np.ascontiguousarray(pixels[: size[0], : size[1]])

    def _tiled(
        self,
        run: Callable[..., np.ndarray],
        arrays: Sequence[np.ndarray],
        cells: tuple[int, int],
    ) -> np.ndarray:
        return map_tiles(run, arrays, cells, self._tile, self._halo, blend=self._blend)

    def _denoise_in_tiles(
        self, prior: np.ndarray, level_map: np.ndarray, cells: tuple[int, int]
    ) -> Denoise:
        def denoise(x: jax.Array, levels_t: np.ndarray) -> jax.Array:
            t, params = np.asarray(levels_t, np.float32), self._params("unet")

            def run(x: np.ndarray, prior: np.ndarray, levels: np.ndarray) -> np.ndarray:
                out = self._denoise(params, x[None], prior[None], levels[None], t)
                return np.asarray(out[0])

            arrays = [np.asarray(x[0]), prior, level_map]
            return jnp.asarray(self._tiled(run, arrays, cells)[None])

        return denoise

    def _compiled(self, name: str, network: Callable[..., jax.Array]) -> Program:
        return Program(network, f"{name} {self._dtype} {self._config}", compiler_options())

    @functools.cached_property
    def _encode(self) -> Callable[..., jax.Array]:
        def encode(params: Any, pixels: jax.Array) -> jax.Array:
            return self._networks.encode(params, to_signed(pixels))[0]

        return self._compiled("encode", encode)

    @functools.cached_property
    def _hyper(self) -> Callable[..., jax.Array]:
        def hyper(params: Any, y: jax.Array, nodes: jax.Array, level_map: jax.Array) -> jax.Array:
            z = self._networks.hyper_encode(params, y, LevelInputs.of(level_map, nodes))
            return round_half_up(z).astype(jnp.int32)

        return self._compiled("hyper", hyper)

    @functools.cached_property
    def _denoise(self) -> Callable[..., jax.Array]:
        def denoise(
            params: Any, x: jax.Array, prior: jax.Array, level_map: jax.Array, t: jax.Array
        ) -> jax.Array:
            return self._networks.denoise(params, x, t, level_map.astype(jnp.int32), prior)

        return self._compiled("denoise", denoise)

    @functools.cached_property
    def _decode(self) -> Callable[..., jax.Array]:
        def decode(params: Any, raw: jax.Array) -> jax.Array:
            return to_bytes(self._networks.decode(params, raw))

        return self._compiled("decode", decode)
