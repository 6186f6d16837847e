"""Cached latents as a source: what the autoencoder made of crops, read instead of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rcodec_jax.data.sources.records import packed_records
from rcodec_jax.data.storage.examples import decode_example, encode_example
from rcodec_jax.data.storage.manifest import read_manifest
from rcodec_jax.data.storage.tfdsfolder import TEXT, Feature, tensor
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import CELL_PX

DTYPE = np.dtype("<f2")


def latent_features(shape: tuple[int, int, int]) -> dict[str, Feature]:
    """Features of a set of latents [h, w, C], for TFDS."""
    return {
        "latent": tensor(shape, "float16"),
        "shape": tensor((3,), "int32"),
        "dtype": TEXT,
        "encoder": TEXT,
    }


def encode_latent(latent: np.ndarray, encoder_digest: str) -> bytes:
    """A record that says what it is: the latent float16 [h, w, C], its shape, dtype and encoder."""
    return encode_example(
        {
            "latent": np.ascontiguousarray(latent, DTYPE).tobytes(),
            "shape": np.array(latent.shape, "<i4").tobytes(),
            "dtype": b"float16",
            "encoder": encoder_digest.encode(),
        }
    )


def decode_latent(record: bytes, encoder_digest: str) -> np.ndarray:
    """The latent of a record, float16 [h, w, C].

    Raises:
      UsageError: no such record, damaged, or of another encoder.
    """
    features: dict[str, Any] = decode_example(record)
    try:
        (data,), (shape,), (dtype,), (encoder,) = (
            features[name] for name in ("latent", "shape", "dtype", "encoder")
        )
        if dtype != b"float16":
            raise UsageError(f"expected latents of float16, got {dtype.decode()}")
        latent = np.frombuffer(data, DTYPE).reshape(np.frombuffer(shape, "<i4"))
    except UsageError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"expected a record of a cached latent: {error}") from None
    if encoder != encoder_digest.encode():
        raise UsageError(
            f"expected a latent of encoder {encoder_digest}, got one of {encoder.decode()}"
        )
    return latent


class LatentSet:
    """Latents that `rcodec data latents` wrote, by index, float16 [h, w, C].

    Attributes:
      kind: what an entry is.
      folder: of the set.
      manifest: what it says of itself.
      shape: of each latent (h, w, C).
      encoder_digest: of the autoencoder that made them (`train.latent_cache.encoder_digest`).
      picture_count: latents; each is of one crop.
      pixel_count: pixels of those crops.
    """

    kind: Literal["images", "latents"] = "latents"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens a set without reading a record.

        Raises:
          UsageError: no such set, or one of pictures.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(folder)
        if self.manifest.kind != "latents":
            raise UsageError(f"{folder}: expected cached latents, got {self.manifest.kind}")
        try:
            plan = self.manifest.facts["plan"]
            height, width, channels = (int(size) for size in plan["shape"])
            self.encoder_digest = str(plan["encoder"])
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"{folder}: its manifest does not say what the latents are") from None
        self.shape = height, width, channels
        self.picture_count = self.manifest.records
        self.pixel_count = self.picture_count * height * width * CELL_PX**2
        self._records = packed_records(self.folder, self.manifest)

    @property
    def digest(self) -> str:
        """Of all its files."""
        return self.manifest.digest

    def __len__(self) -> int:
        return self.picture_count

    def __getitem__(self, index: int) -> np.ndarray:
        """A latent, read-only.

        Raises:
          UsageError: it is damaged, or not what the manifest says.
          StorageError: the operating system cannot read it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index in 0..{len(self) - 1}, got {index}")
        record = self._records[index]
        try:
            latent = decode_latent(record, self.encoder_digest)
            if latent.shape != self.shape:
                raise UsageError(f"expected a latent of {self.shape}, got {latent.shape}")
        except UsageError as error:
            raise UsageError(f"{self.folder}: record {index}: {error}") from None
        return latent

    def __repr__(self) -> str:
        return f"LatentSet({str(self.folder)!r}, {len(self)} latents)"
