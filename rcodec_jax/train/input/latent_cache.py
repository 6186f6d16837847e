"""Latents made once for the stage that leaves the autoencoder alone, instead of at every step.

What is cached is the mean of the posterior as the encoder gives it, before shift and scale, in
float16: of the two moments the codec stage uses only that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rcodec_jax import scale
from rcodec_jax.checkpoint import wait_for_all
from rcodec_jax.config.model import ModelConfig
from rcodec_jax.data import Mixture, make_dataset
from rcodec_jax.data.loading.loader import Batches
from rcodec_jax.data.sources.latents import encode_latent, latent_features
from rcodec_jax.data.storage.manifest import Manifest, read_manifest
from rcodec_jax.data.storage.shards import Packing, Record
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.levels import CELL_PX
from rcodec_jax.model.compiling import compiler_options
from rcodec_jax.model.networks import Networks, Params
from rcodec_jax.model.trained import Trained
from rcodec_jax.ops.pixels import to_signed
from rcodec_jax.progress import Progress, no_progress

SHARD_BYTES = 2**28
SHARD_ROWS = 1024
"""Fewest latents a shard where there are as many: what an interruption may cost."""


def encoder_digest(params: Params) -> str:
    """Fingerprint of a model's encoder, 16 hexadecimal digits, from its parameters in float32."""
    encoder = params["encoder"]
    split = [x for x in jax.tree.leaves(encoder) if not getattr(x, "is_fully_addressable", True)]
    if split:  # over processes: every one of them takes part in putting it together
        whole = NamedSharding(split[0].sharding.mesh, PartitionSpec())
        gather = jax.jit(lambda x: x, out_shardings=whole).lower(encoder).compile()
        wait_for_all("compiled the gathering of the encoder")
        encoder = gather(encoder)
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder):
        if isinstance(leaf, jax.Array):
            leaf = scale.fetch(leaf)
        values = np.ascontiguousarray(leaf, "<f4")
        digest.update(f"{jax.tree_util.keystr(path)} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def check_latents(mixture: Mixture, params: Params) -> None:
    """Holds cached latents against the encoder of the model that is to train on them.

    Raises:
      UsageError: another autoencoder made them.
    """
    if not mixture.latent_sets:
        return
    expected = encoder_digest(params)
    for source in mixture.latent_sets:
        if source.encoder_digest != expected:
            raise UsageError(
                f"{source.folder}: expected latents of this model's encoder, {expected}, got those "
                f"of {source.encoder_digest} (make them of the weights given to --init-from)"
            )


@dataclasses.dataclass(frozen=True)
class Crops:
    """Which crops of the sources are encoded, and how.

    Attributes:
      crop_px: side, a multiple of 8; training may crop these further, by whole cells.
      records: their number; None for so many that they cover `passes` times the pixels of the
        sources, or `passes` times as many as there are pictures, whichever is more.
      passes: see `records`.
      batch_size: crops encoded at once, over all devices.
      seed: of order, crops and flips.
      dtype: of the encoder's computation.
    """

    crop_px: int
    records: int | None = None
    passes: float = 1.0
    batch_size: int = 16
    seed: int = 0
    dtype: str = "float32"

    def count(self, mixture: Mixture) -> int:
        """Number of crops of these sources."""
        if self.records:
            return self.records
        areas = [source.pixel_count for source in mixture.sources]
        covering = sum(area for area in areas if area is not None) / self.crop_px**2
        return max(1, math.ceil(self.passes * max(covering, mixture.picture_count)))


def cache_latents(
    mixture: Mixture,
    out: str | os.PathLike[str],
    model: Trained,
    crops: Crops,
    *,
    force: bool = False,
    progress: Progress = no_progress,
) -> Manifest:
    """Writes latents of random crops, just the crops and flips that training would have drawn.

    The crops are rows of the training loader, so a flip is a record of its own. Called again after
    an interruption it goes on and ends with the same bytes.

    Args:
      mixture: pictures.
      out: folder of the packed set.
      model: whose encoder to use.
      crops: what to write.
      force: replace another packed set in `out`.
      progress: called with (crops done, crops, what).

    Raises:
      UsageError: no pictures, or `out` holds something else.
      RcodecError: a latent that is not finite in float16.
    """
    if mixture.kind != "images":
        raise UsageError("expected a source of pictures, got latents that are cached already")
    count, cells = crops.count(mixture), crops.crop_px // CELL_PX
    shape = (cells, cells, model.config.latent_channels)
    rows = _shard_rows(shape, count, crops.batch_size)
    encoder = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model.params["encoder"])
    digest = encoder_digest({"encoder": encoder})
    plan: dict[str, Any] = {
        "encoder": digest,
        "shape": list(shape),
        "records": count,
        "rows": rows,
        "batch": crops.batch_size,
        "seed": crops.seed,
        "dtype": crops.dtype,
        "sources": [f"{source.digest} {weight:g}" for source, weight in mixture.weighted],
    }
    packing = Packing(Path(out), "latents", plan, -(-count // rows))
    packing.begin(force=force)
    if packing.complete:
        return read_manifest(out)
    encode = _Encoder(model.config, encoder, crops.dtype)
    batches = make_dataset(
        mixture, crop_px=crops.crop_px, batch_size=crops.batch_size, seed=crops.seed
    )
    with contextlib.closing(batches):
        for index in packing.missing():
            shard = range(index * rows, min((index + 1) * rows, count))
            batches.set_state({"next_index": shard.start // crops.batch_size})
            latents = _latents(batches, encode, shard, lambda done: progress(done, count, "crops"))
            size_px = (crops.crop_px, crops.crop_px)
            packing.write(index, (Record(encode_latent(y, digest), size_px) for y in latents))
    progress(count, count, "")
    return packing.finish(latent_features(shape), {})


class _Encoder:
    """An encoder on all devices: pictures uint8 [B, H, W, 3] -> latents float32 [B, h, w, C]."""

    def __init__(self, config: ModelConfig, parameters: Params, dtype: str) -> None:
        self._mesh = scale.make_mesh()
        networks = Networks(config, jnp.dtype(dtype))
        self._params = scale.replicate({"encoder": parameters}, self._mesh)
        self._encode = jax.jit(
            lambda p, image: networks.encode(p, to_signed(image))[0].astype(jnp.float32),
            compiler_options=compiler_options(),
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(self._encode(self._params, scale.global_batch(image, self._mesh)))


def _latents(
    batches: Batches, encode: _Encoder, rows: range, done: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """Latents float16 [h, w, C] of the loader's rows `rows`, the first of which comes next.

    Args:
      batches: the loader.
      encode: the encoder.
      rows: what to give, from the first row of a batch on; the rest of the last batch is dropped.
      done: called after each batch with the number of its first row.
    """
    first = rows.start
    while first < rows.stop:
        found = encode(next(batches)["image"])[: rows.stop - first]
        with np.errstate(over="ignore"):
            halves = found.astype(np.float16)
        if not np.isfinite(halves).all():
            raise RcodecError(
                f"expected latents within float16, got up to {np.abs(found).max():g} in crops "
                f"{first} to {first + len(found) - 1}"
            )
        done(first)
        yield from halves
        first += len(found)


def _shard_rows(shape: tuple[int, int, int], count: int, batch_size: int) -> int:
    """Latents of a shard, whole batches of them."""
    rows = min(SHARD_BYTES // (2 * math.prod(shape)), max(SHARD_ROWS, -(-count // 16)))
    return max(1, rows // batch_size) * batch_size
