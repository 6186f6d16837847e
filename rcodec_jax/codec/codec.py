"""The codec as users meet it."""

from __future__ import annotations

import functools
import os
from typing import Any, Literal, get_args

import numpy as np

from rcodec_jax.codec import decode as decoding
from rcodec_jax.codec import encode as encoding
from rcodec_jax.codec.bundle import Bundle, load_bundle
from rcodec_jax.codec.encode import Encoded
from rcodec_jax.codec.inference import Programs
from rcodec_jax.codec.refine import DEFAULT_TUNE, Refiner, Tune
from rcodec_jax.diffusion.schedule import Trajectory
from rcodec_jax.entropy import Limits
from rcodec_jax.errors import UsageError
from rcodec_jax.levels import DEFAULT_STRENGTH

Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


class Codec:
    """A model ready to encode and decode; make one with `load`.

    Attributes:
      bundle: the model.
      dtype: of the float networks' computation, "float32" or "bfloat16".
    """

    def __init__(self, bundle: Bundle, *, dtype: Dtype = "float32") -> None:
        if dtype not in DTYPES:
            raise UsageError(f"expected dtype {' or '.join(DTYPES)}, got {dtype!r}")
        self.bundle = bundle
        self.dtype = dtype

    @property
    def card(self) -> dict[str, Any]:
        """Name, figures and digests of the model."""
        return self.bundle.card | {
            "integer_digest": self.bundle.integers.digest.hex(),
            "float_digest": self.bundle.float_digest.hex(),
        }

    def encode(
        self,
        image: np.ndarray,
        *,
        importance: np.ndarray | None = None,
        quality: float | None = None,
        bpp: float | None = None,
        size_bytes: int | None = None,
        roi_strength: float = DEFAULT_STRENGTH,
        effort: int | None = None,
        tune: Tune = DEFAULT_TUNE,
    ) -> bytes:
        """Encodes a picture.

        Args:
          image: uint8 [H, W, 3], sRGB, any size from 1x1.
          importance: float [H, W] in 0..1; where bits go. None: everywhere alike.
          quality: 0..100, default 50.
          bpp: budget in bits per pixel of the file, never exceeded.
          size_bytes: budget in bytes, never exceeded. At most one of the three.
          roi_strength: 0..1, how much the importance counts; 1 sacrifices the background.
          effort: 1..9, how long to fit the latents to this picture before they are coded: smaller
            files of the same quality, for time at encoding alone (see `refine.STEPS`). None: the
            default, or 1 for a model that lacks what it takes, with a note.
          tune: what effort beyond 1 is for: "mse" for PSNR alone, "balanced" for it and for how
            pictures look, "perceptual" for the latter.

        Returns:
          The file.

        Raises:
          UsageError: bad arguments, a budget below what the model can reach (named), or an effort
            beyond 1 of a model without `training.safetensors`.
        """
        return self.encode_detailed(
            image,
            importance=importance,
            quality=quality,
            bpp=bpp,
            size_bytes=size_bytes,
            roi_strength=roi_strength,
            effort=effort,
            tune=tune,
        ).data

    def encode_detailed(self, image: np.ndarray, **options: Any) -> Encoded:
        """`encode`, of the same options, with all that came about on the way.

        Args:
          image: uint8 [H, W, 3], sRGB.
          options: as for `encode`; besides them `trade`, see `quantise.trim`, and `progress`, see
            `rcodec_jax.progress`, called as latents are refined.

        Raises:
          UsageError: as `encode`.
        """
        return encoding.encode(self.bundle, self._programs, image, refiner=self._refiner, **options)

    def decode(
        self,
        data: bytes,
        *,
        steps: int | None = None,
        trajectory: Trajectory = "proportional",
        realism: float = 0.0,
        limits: Limits | None = None,
    ) -> np.ndarray:
        """Decodes a file.

        Args:
          data: the file.
          steps: denoiser evaluations, 1..50; None for the model's default. Few give fidelity.
          trajectory: how the cells' timesteps fall together.
          realism: 0..1, from least error to real detail, part of which is made up; above 0 of
            models that have such a decoder.
          limits: what to refuse before anything is allocated.

        Returns:
          uint8 [H, W, 3].

        Raises:
          BitstreamError: damaged, beyond the limits, or of another model.
          UsageError: bad arguments.
        """
        return decoding.decode(
            self.bundle,
            self._programs,
            data,
            steps=steps,
            trajectory=trajectory,
            realism=realism,
            limits=limits,
        )

    @functools.cached_property
    def _programs(self) -> Programs:
        return Programs(self.bundle, dtype=self.dtype)

    @functools.cached_property
    def _refiner(self) -> Refiner:
        return Refiner(self.bundle)


def load(model: str | os.PathLike[str] | None = None, *, dtype: Dtype = "float32") -> Codec:
    """Loads a codec.

    Args:
      model: folder of a bundle; None for the one that ships with the package.
      dtype: of the float networks' parameters and computation. "bfloat16" halves memory and is
        fast on accelerators; pictures differ a little, the symbols of a file never.

    Raises:
      BundleError: no bundle there, or a damaged one.
      UsageError: another dtype.
    """
    return Codec(load_bundle(model), dtype=dtype)
