"""Latents made once for the stage that leaves the autoencoder alone, instead of at every step.

What is cached is the mean of the posterior as the encoder gives it, before shift and scale, in
float16: of the two moments the codec stage uses only that one.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rcodec_jax import scale
from rcodec_jax.codec.networks import Networks, Params
from rcodec_jax.codec.trained import Trained
from rcodec_jax.data import Mixture, image_batches
from rcodec_jax.data.latents import encode_latent, latent_features
from rcodec_jax.data.manifest import Manifest, Progress, no_progress, read_manifest
from rcodec_jax.data.shards import Packing, Record
from rcodec_jax.errors import RcodecError, UsageError
from rcodec_jax.levels import CELL_PX
from rcodec_jax.ops.pixels import to_signed

SHARD_BYTES = 2**28
SHARD_ROWS = 1024
"""Fewest latents a shard where there are as many: what an interruption may cost."""


def encoder_digest(params: Params) -> str:
    """Fingerprint of a model's encoder, 16 hexadecimal digits, from its parameters in float32."""
    encoder = params["encoder"]
    split = [x for x in jax.tree.leaves(encoder) if not getattr(x, "is_fully_addressable", True)]
    if split:  # over processes: every one of them takes part in putting it together
        whole = NamedSharding(split[0].sharding.mesh, PartitionSpec())
        encoder = jax.jit(lambda x: x, out_shardings=whole)(encoder)
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


def cache_latents(
    mixture: Mixture,
    out: str | os.PathLike[str],
    model: Trained,
    *,
    crop_px: int,
    records: int | None = None,
    passes: float = 1.0,
    batch_size: int = 16,
    seed: int = 0,
    dtype: str = "float32",
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
      crop_px: side of the crops, a multiple of 8; training may crop these further, by whole cells.
      records: crops; None for so many that they cover `passes` times the pixels of the sources, or
        `passes` times as many as there are pictures, whichever is more.
      passes: see `records`.
      batch_size: crops encoded at once, over all devices.
      seed: of order, crops and flips.
      dtype: of the encoder's computation, "float32" or "bfloat16".
      force: replace another packed set in `out`.
      progress: called with (crops done, crops, what).

    Raises:
      UsageError: no pictures, or `out` holds something else.
      RcodecError: a latent that is not finite in float16.
    """
    if mixture.kind != "images":
        raise UsageError("expected a source of pictures, got latents that are cached already")
    count = records or _default_records(mixture, crop_px, passes)
    cells = crop_px // CELL_PX
    shape = (cells, cells, model.config.latent_channels)
    shard_rows = min(SHARD_BYTES // (2 * math.prod(shape)), max(SHARD_ROWS, -(-count // 16)))
    shard_batches = max(1, shard_rows // batch_size)
    rows = shard_batches * batch_size
    encoder = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model.params["encoder"])
    plan: dict[str, Any] = {
        "encoder": encoder_digest({"encoder": encoder}),
        "shape": list(shape),
        "records": count,
        "rows": rows,
        "batch": batch_size,
        "seed": seed,
        "dtype": dtype,
        "sources": [f"{source.digest} {weight:g}" for source, weight in mixture.weighted],
    }
    packing = Packing(Path(out), "latents", plan, -(-count // rows))
    packing.begin(force=force)
    if packing.complete:
        return read_manifest(out)
    mesh = scale.make_mesh()
    networks = Networks(model.config, jnp.dtype(dtype))
    params = scale.replicate({"encoder": encoder}, mesh)
    encode = jax.jit(lambda p, image: networks.encode(p, to_signed(image))[0].astype(jnp.float32))
    batches = image_batches(mixture, crop_px=crop_px, batch_size=batch_size, seed=seed)

    def latents(first: int, wanted: int) -> Iterator[np.ndarray]:
        """Latents of rows [first, first + wanted) of the loader."""
        for done in range(0, wanted, batch_size):
            batch = scale.global_batch(next(batches), mesh)
            found = np.asarray(encode(params, batch["image"]))[: wanted - done]
            with np.errstate(over="ignore"):
                halves = found.astype(np.float16)
            if not np.isfinite(halves).all():
                raise RcodecError(
                    f"expected latents within float16, got up to {np.abs(found).max():g} in crops "
                    f"{first + done} to {first + done + len(found) - 1}"
                )
            progress(first + done, count, "crops")
            yield from halves

    for index in packing.missing():
        first = index * rows
        wanted = min(rows, count - first)
        position = {"next_index": index * shard_batches}
        if batches.get_state() != position:
            batches.set_state(position)
        packing.write(
            index,
            (
                Record(encode_latent(latent, plan["encoder"]), (crop_px, crop_px))
                for latent in latents(first, wanted)
            ),
        )
    batches.close()
    progress(count, count, "")
    return packing.finish(latent_features(shape), {})


def _default_records(mixture: Mixture, crop_px: int, passes: float) -> int:
    areas = [source.pixel_count for source in mixture.sources]
    covering = sum(area for area in areas if area is not None) / crop_px**2
    return max(1, math.ceil(passes * max(covering, mixture.picture_count)))
