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

from rcodec_jax.codec.tiling import (
    HALO,
    TILE,
    WIDE_HALO,
    Array,
    Extended,
    bucket,
    coarser,
    map_tiles,
    tile_size,
    tiles,
)
from rcodec_jax.codec.tracing import Program
from rcodec_jax.diffusion.sampler import advance, by_centroids, walk
from rcodec_jax.diffusion.schedule import Trajectory, node_table
from rcodec_jax.levels import CELL_PX, HYPER_STRIDE
from rcodec_jax.model.bundle import Bundle
from rcodec_jax.model.ends import BALANCED, end_towards
from rcodec_jax.ops.pixels import to_bytes, to_signed
from rcodec_jax.ops.rounding import round_half_up
from rcodec_jax.progress import Progress, no_progress
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
        their tiles fade into one another. None for the halo that suits the networks.
    """

    def __init__(
        self, bundle: Bundle, *, dtype: str = "float32", tile: int = TILE, halo: int | None = None
    ) -> None:
        self._config = bundle.config
        self.schedule = bundle.config.noise_schedule
        self._host = bundle.params
        self._device: dict[str, Any] = {}
        self._dtype = jnp.dtype(dtype)
        self._shift = bundle.shift.reshape(1, 1, -1)
        self._scale = bundle.scale.reshape(1, 1, -1)
        auto, unet = bundle.config.autoencoder, bundle.config.unet
        attends = auto.attention or any((*unet.heads, unet.middle_heads))
        centroids = bundle.integers.centroids
        self._centroids = None if centroids is None else centroids.values
        self._blend = attends or "group" in (auto.norm, unet.norm)
        self._tile = tile
        self._halo = (WIDE_HALO if self._blend else HALO) if halo is None else halo

    def _params(self, part: str) -> dict[str, Any]:
        """Parameters of one network on the device: what is not used is not placed there."""
        if part not in self._device:
            host = self._host[part]
            if "context" in host:
                from rcodec_jax.nn.unet import fold_context

                host = fold_context(host)
            # Converted here and not by JAX, which would compile that for each shape.
            host = jax.tree.map(lambda a: np.asarray(a, self._dtype), host)
            self._device[part] = jax.device_put(host)
        return {part: self._device[part]}

    def _decoder(self, realism: float) -> dict[str, Any]:
        """Parameters of the decoder, or between it and the end on that side of it."""
        own = self._params("decoder")
        end = end_towards(realism)
        if end is None:
            return own
        other = self._params(end)[end]
        share = abs(realism - BALANCED) / BALANCED
        if share == 1:
            return {"decoder": other}
        return {"decoder": jax.tree.map(lambda a, b: a + share * (b - a), own["decoder"], other)}

    def latent(self, pixels: np.ndarray) -> np.ndarray:
        """Picture uint8 [H, W, 3] -> scaled latent y float32 [h, w, C] of its bucket.

        Rows and columns past ceil(H/8), ceil(W/8) belong to the mirrored extension.
        """
        height, width = (bucket(-(-side // CELL_PX)) for side in pixels.shape[:2])
        extended = Extended(pixels, height * CELL_PX, width * CELL_PX)

        def run(window: np.ndarray) -> np.ndarray:
            raw = np.asarray(self._encode(self._params("encoder"), window[None]))[0]
            return (raw - self._shift) * self._scale

        return self._tiled(run, [extended], (height, width))

    def hyper(self, y: np.ndarray, levels: LevelMap) -> np.ndarray:
        """Scaled latent of a bucket [h', w', C] and the picture's levels -> z int32 [hz, wz, Z]."""
        level_map, nodes = Extended(levels.level_map, *y.shape[:2]), levels.padded_nodes[None]
        params, z = self._params("hyper_analysis"), None
        size = tile_size(y.shape[:2], self._tile, self._halo)
        for whole, core, own in tiles(y.shape[:2], size, self._halo):
            out = self._hyper(params, y[whole][None], nodes, level_map[whole][None])
            if z is None:
                shape = (side // HYPER_STRIDE for side in y.shape[:2])
                z = np.empty((*shape, out.shape[3]), np.int32)
            z[coarser(core, HYPER_STRIDE)] = np.asarray(out)[0][coarser(own, HYPER_STRIDE)]
        assert z is not None  # there is at least one tile
        height, width = (-(-side // HYPER_STRIDE) for side in levels.level_map.shape)
        return z[:height, :width]

    def pixels(
        self,
        x: Array,
        prior: Array,
        dither: Array,
        levels: LevelMap,
        size: tuple[int, int],
        *,
        steps: int,
        kind: Trajectory,
        realism: float = BALANCED,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Denoises and decodes.

        Args:
          x: dequantised latent float32 [h, w, C]; it, prior and dither may be a `tiling.Array`.
          prior: mean and log2 sigma of the entropy model, float32 [h, w, 2C].
          dither: of the latent, in -1/2..1/2 [h, w, C].
          levels: the picture's level map [h, w].
          size: (height, width) of the picture in pixels.
          steps: denoiser evaluations.
          kind: how timesteps fall.
          realism: 0..1, from least error to real detail; other than `BALANCED` with such an end.

        Returns:
          uint8 [H, W, 3].
        """
        cells = (bucket(x.shape[0]), bucket(x.shape[1]))
        levels_t = node_table(self.schedule).t[levels.padded_nodes[None]]
        params, unet = self._decoder(realism), self._params("unet")
        around = [Extended(a, *cells) for a in (prior, levels.level_map)]
        stages, parts = iter(range(steps + 1)), steps + 1

        def tiles_of_stage() -> Callable[[int, int], None]:
            stage, what = next(stages), "decoding"
            return lambda done, total: progress(stage * total + done, parts * total, what)

        def step(x: Array, t: np.ndarray, now: np.ndarray, then: np.ndarray) -> tuple[Array, Array]:
            def run(*window: np.ndarray) -> np.ndarray:
                x, prior, level_map = (a[None] for a in window)
                given: Array | jax.Array = x
                estimate, whole = None, level_map.astype(np.int32)
                if self._centroids is not None:
                    given, estimate = self._by_centroids(x, whole, now, prior, self._centroids)
                out = self._denoise(unet, given, prior, level_map, np.asarray(t, np.float32))
                output, features = np.split(np.asarray(out), [channels], axis=-1)
                clean, after = self._advance(x, output, whole, now, then, prior, estimate)
                found = (clean, features, after) if steps > 1 else (clean, features)
                return np.concatenate([np.asarray(a)[0] for a in found], axis=-1)

            result = self._tiled(run, [x, *around], cells, tiles_of_stage())
            return result[..., :known], result[..., -channels:]

        channels = x.shape[2]
        known = channels + self._config.decoder_features
        clean = walk(
            step, Extended(x, *cells), levels_t, steps=steps, schedule=self.schedule, kind=kind
        )

        def run(clean: np.ndarray, *dither: np.ndarray) -> np.ndarray:
            latent, features = np.split(clean, [channels], axis=-1)
            raw = latent / self._scale + self._shift
            given = (raw, features, dither[0].astype(np.float32)) if dither else (raw,)
            return np.asarray(self._decode(params, *(a[None] for a in given)))[0]

        beside = [Extended(dither, *cells)] if self._config.hint_channels else []
        pixels = self._tiled(run, [clean, *beside], cells, tiles_of_stage())
        return np.ascontiguousarray(pixels[: size[0], : size[1]])

    def _tiled(
        self,
        run: Callable[..., np.ndarray],
        arrays: Sequence[Array],
        cells: tuple[int, int],
        tile_done: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        tile, halo = self._tile, self._halo
        return map_tiles(run, arrays, cells, tile, halo, blend=self._blend, tile_done=tile_done)

    @functools.cached_property
    def _networks(self) -> Any:
        # Late, like Flax with them: a program that was kept needs neither.
        from rcodec_jax.model.networks import Networks

        return Networks(self._config, self._dtype, folded=True)

    def _compiled(self, name: str, network: Callable[..., Any], **options: Any) -> Program:
        return Program(network, f"{name} {self._dtype} {self._config}", **options)

    @functools.cached_property
    def _encode(self) -> Callable[..., jax.Array]:
        def encode(params: Any, pixels: jax.Array) -> jax.Array:
            return self._networks.encode(params, to_signed(pixels))[0]

        return self._compiled("encode", encode)

    @functools.cached_property
    def _hyper(self) -> Callable[..., jax.Array]:
        def hyper(params: Any, y: jax.Array, nodes: jax.Array, level_map: jax.Array) -> jax.Array:
            from rcodec_jax.model.networks import LevelInputs

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
    def _by_centroids(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        return self._compiled("by_centroids", by_centroids, result=(0, 0), options=dict)

    @functools.cached_property
    def _advance(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        function = functools.partial(advance, prediction=self._config.unet.prediction)
        return self._compiled("advance", function, result=(0, 0), options=dict)

    @functools.cached_property
    def _decode(self) -> Callable[..., jax.Array]:
        def decode(params: Any, raw: jax.Array, *given: jax.Array) -> jax.Array:
            hints = self._networks.hints(*given) if given else None
            return to_bytes(self._networks.decode(params, raw, hints))

        return self._compiled("decode", decode)
